"""What the front door may ask of the orchestrator. It talks to nothing else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.control import Control, Outcome
from orchestrator.core.commands import (
    Completed,
    Discard,
    DuplicateId,
    NoRoute,
    Preview,
    Progress,
    QueueFull,
    Reject,
    Timings,
)
from orchestrator.core.events import Cancel, DrainInstance, RemoveInstance, Submit
from orchestrator.core.view import ClusterView
from orchestrator.operator import Operator
from transfer.actions import Adapter
from transfer.messages import ErrorInfo, Inputs, Media, ModelInfo, Role

__all__ = [
    "Busy",
    "ClusterView",
    "Completed",
    "Duplicate",
    "NotReady",
    "Previews",
    "Progress",
    "RequestFailed",
    "Service",
    "Timings",
]

KEPT = 64  # steps of progress that a slow reader may be behind


class RequestFailed(Exception):
    """An accepted request ended without a result; `error.kind` decides the HTTP status."""

    def __init__(self, error: ErrorInfo) -> None:
        super().__init__(error.message)
        self.error = error


class Busy(Exception):
    """Too many requests wait. Nothing was accepted; try again in `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many requests wait; try again in {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class NotReady(Exception):
    """Nothing was accepted: the roles in `missing`, of the `model`, have no ready instance; of
    those in `asleep`, one sleeps."""

    def __init__(self, missing: list[Role], asleep: Sequence[Role] = (), model: str = "") -> None:
        super().__init__(f"no ready instance of: {', '.join(missing)}")
        self.missing, self.asleep, self.model = missing, asleep, model


class Duplicate(Exception):
    """Nothing was accepted: a request of this id is still under way."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request {request_id} is still under way")
        self.request_id = request_id


@dataclass(frozen=True)
class Previews:
    """So many pictures of a request half done, at most. `show` gets each of them while the request
    is under way, and owns its files; it returns at once and does not raise."""

    count: int
    show: Callable[[list[Media]], None]


class Service:
    """Requests in, results out. Lives in the event loop of the control channel.

    Made by `orchestrator.server`; given to the front door's `create_app`. Tests of the front
    door put a double with the same methods in its place. `release` lets go of a finished file that
    nobody wants any more; it never raises.
    """

    def __init__(
        self,
        control: Control,
        request_timeout_s: float,
        release: Callable[[Media], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._control = control
        self._release = release
        self._releasing: set[asyncio.Task[None]] = set()
        self._machine = control.machine
        self._request_timeout_s = request_timeout_s
        self._waiting: dict[str, asyncio.Future[Completed]] = {}
        self._previews: dict[str, Previews] = {}
        self._followers: dict[str, set[asyncio.Queue[Progress | None]]] = {}
        self._counted: list[Callable[[], dict[str, int]]] = []
        control.listener = self._hear
        self.operator = Operator(control)

    async def generate(
        self,
        inputs: Inputs,
        *,
        request_id: str,
        model: str = "",
        timeout_s: float | None = None,
        previews: Previews | None = None,
    ) -> Completed:
        """Runs one request to its end. `model`: its name; empty: the usual one. `timeout_s` None:
        the server's own limit.

        Raises `NotReady`, `Busy` or `Duplicate` (nothing was accepted) or `RequestFailed`.
        Cancelling the coroutine cancels the request.
        """
        if request_id in self._waiting:
            raise Duplicate(request_id)
        limit = self._request_timeout_s if timeout_s is None else timeout_s
        future: asyncio.Future[Completed] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        if previews is not None:
            self._previews[request_id] = previews
        try:
            count = previews.count if previews is not None else 0
            self._control.post(Submit(request_id, inputs, limit, previews=count, model=model))
            return await future
        except asyncio.CancelledError:
            self._control.post(Cancel(request_id, "the client has gone"))
            if future.done() and not future.cancelled() and future.exception() is None:
                self._discard(future.result().media)  # it was done just before
            raise
        finally:
            del self._waiting[request_id]
            self._previews.pop(request_id, None)

    async def progress(self, request_id: str) -> AsyncIterator[Progress]:
        """Where the request is, as it moves, until it ends. May begin before `generate` is
        called, but not after it returned; a slow reader misses steps, never the newest one."""
        news: asyncio.Queue[Progress | None] = asyncio.Queue(KEPT)
        followers = self._followers.setdefault(request_id, set())
        followers.add(news)
        try:
            while (progress := await news.get()) is not None:
                yield progress
        finally:
            followers.discard(news)
            if not followers:
                self._followers.pop(request_id, None)

    def cluster(self) -> ClusterView:
        return self._machine.view()

    def model(self, name: str) -> ModelInfo | None:
        """What is known of the model of that name, also while nobody has it."""
        return self._machine.model(name)

    def models(self) -> list[ModelInfo]:
        """Those that roles have registered, in the order in which they first did."""
        return self._machine.models

    def usual_model(self) -> ModelInfo | None:
        """What a request gets that names none; None: there are several, or none."""
        return self._machine.usual_model

    def missing(self, model: str | None = None) -> list[Role]:
        """The roles of a model's route that have no ready instance, or of those of all; empty means
        ready."""
        return self._machine.missing(model)

    def routes(self) -> dict[str, list[Role]]:
        """The same, by model."""
        return self._machine.routes()

    def asleep(self, model: str | None = None) -> list[Role]:
        """Those of them of which an instance sleeps."""
        return self._machine.asleep(model)

    def adapters(self, model: str) -> dict[str, Adapter]:
        """Those that requests for a model may have on, in the order in which they were loaded."""
        return self._machine.adapters(model)

    def drain(self, name: str) -> None:
        """No new work for the instance; it leaves when it has none. KeyError: no live instance
        has that name."""
        if not self._machine.lives(name):
            raise KeyError(name)
        self._control.post(DrainInstance(name))

    def remove(self, name: str) -> None:
        """The instance is out at once, and its requests fail. KeyError: unknown name."""
        if not self._machine.knows(name):
            raise KeyError(name)
        self._control.post(RemoveInstance(name))

    def counters(self) -> dict[str, int]:
        """Everything counted since the start, for /metrics."""
        counted = self._control.counters
        for source in self._counted:
            counted |= source()
        return counted

    def count_also(self, source: Callable[[], dict[str, int]]) -> None:
        """What `source` gives is part of `counters` from now on."""
        self._counted.append(source)

    def healthy(self) -> bool:
        """The control channel's loop runs."""
        return self._control.healthy

    def _discard(self, media: list[Media]) -> None:
        if self._release is None:
            return
        for each in media:
            task = asyncio.get_running_loop().create_task(self._release(each))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    def _hear(self, outcome: Outcome) -> None:
        if isinstance(outcome, Discard):
            self._discard(outcome.media)
            return
        if isinstance(outcome, Preview):
            self._show(outcome)
            return
        if isinstance(outcome, Progress):
            self._tell(outcome.request, outcome)
            return
        self._tell(outcome.request, None)
        future = self._waiting.get(outcome.request)
        if future is None or future.done():
            return
        if isinstance(outcome, Reject):
            future.set_exception(_refused(outcome))
        elif isinstance(outcome.result, Completed):
            future.set_result(outcome.result)
        else:
            future.set_exception(RequestFailed(outcome.result))

    def _show(self, preview: Preview) -> None:
        previews = self._previews.get(preview.request)
        if previews is None:
            self._discard(preview.media)
        else:
            previews.show(preview.media)

    def _tell(self, request_id: str, news: Progress | None) -> None:
        for queue in self._followers.get(request_id, ()):
            if queue.full():
                queue.get_nowait()  # the oldest
            queue.put_nowait(news)


def _refused(outcome: Reject) -> Exception:
    match outcome.refusal:
        case QueueFull(retry_after_s=seconds):
            return Busy(seconds)
        case NoRoute(missing=missing, asleep=asleep, model=model):
            return NotReady(missing, asleep, model)
        case DuplicateId():
            return Duplicate(outcome.request)
