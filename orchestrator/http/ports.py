"""The three things that the front door talks to, as far as it needs to know them.

`Service` is `orchestrator.service.Service`; `Jobs` is `orchestrator.jobs.service.Jobs`;
`MediaSource` hands out finished files, and is `orchestrator.http.media.gateway.MediaGateway`. Tests
put small doubles in their places.
"""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Protocol

from orchestrator.core.commands import Answers
from orchestrator.jobs.model import (
    Idempotency,
    Job,
    JobEvent,
    JobSpec,
    JobStatus,
    StoredFile,
)
from orchestrator.service import ClusterView, Completed, Previews
from transfer.actions import Action, Adapter
from transfer.messages import Inputs, Media, ModelInfo, Role


class Service(Protocol):
    """`generate` raises `NotReady`, `Busy`, `Duplicate` or `RequestFailed` of
    `orchestrator.service`; cancelling it cancels the request."""

    async def generate(
        self,
        inputs: Inputs,
        *,
        request_id: str,
        model: str = "",
        previews: Previews | None = None,
    ) -> Completed: ...

    def cluster(self) -> ClusterView: ...

    def model(self, name: str) -> ModelInfo | None:
        """What is known of the model of that name, also while nobody has it."""
        ...

    def models(self) -> list[ModelInfo]: ...

    def usual_model(self) -> ModelInfo | None:
        """What a request gets that names none; None: there are several, or none."""
        ...

    def missing(self, model: str | None = None) -> list[Role]:
        """The roles of a model's route without a ready instance, or of those of all; empty when
        requests can run."""
        ...

    def routes(self) -> dict[str, list[Role]]:
        """The same, by model."""
        ...

    def asleep(self, model: str | None = None) -> list[Role]:
        """Those of them of which an instance sleeps."""
        ...

    def drain(self, name: str) -> None:
        """Raises `KeyError` for an unknown name, like `remove`."""
        ...

    def remove(self, name: str) -> None: ...

    def counters(self) -> dict[str, int]: ...

    def adapters(self, model: str) -> dict[str, Adapter]:
        """Those that requests for a model may have on."""
        ...

    @property
    def operator(self) -> "Operator": ...


class Operator(Protocol):
    """`orchestrator.operator.Operator`."""

    async def ask(
        self, target: str, action: Action, timeout_s: float, model: str | None = None
    ) -> Answers:
        """Raises what is there in `orchestrator.operator`."""
        ...


class Jobs(Protocol):
    """Durable generations. What was returned is on disk already, and survives this process."""

    async def submit(self, spec: JobSpec, idempotency: Idempotency | None = None) -> Job:
        """Accepts a job; with a key that was used before, gives the job that it belongs to.

        Raises `Busy` or `NotReady` of `orchestrator.service`, `KeyConflict` (the key belongs to
        another body) or `JournalDown` (it cannot be written): then nothing was accepted.
        """
        ...

    async def recall(self, idempotency: Idempotency) -> Job | None:
        """The job that this key belongs to, if there is one: also while no role is there, and
        nothing new could be accepted. Raises `KeyConflict`."""
        ...

    async def find(self, id: str) -> Job | None: ...

    async def page(
        self,
        limit: int,
        after: str | None,
        status: JobStatus | None,
        *,
        videos: bool = False,
        ascending: bool = False,
    ) -> tuple[list[Job], bool]:
        """The newest first, or the oldest, and whether there are more. `videos`: only what was
        asked for as one. `KeyError`: there is no job `after`."""
        ...

    async def cancel(self, id: str) -> Job:
        """A job that is over comes back as it is. `KeyError`: there is no such job."""
        ...

    async def forget(self, id: str) -> None:
        """Cancels the job if it is not over, and returns when nothing is kept of it. `KeyError`:
        there is no such job. `JournalDown`: it will be forgotten, but not yet."""
        ...

    def events(self, id: str, after: int) -> AsyncGenerator[JobEvent, None]:
        """Those with numbers above `after` that are still kept, then new ones as they come; the
        one with which the job is over is the last. Of a job that is over at least that one is
        kept. A reader that is slow misses progress, never the end. Raises `KeyError`."""
        ...

    async def wait(self, id: str) -> Job:
        """Returns when the job is over. Raises `KeyError`."""
        ...

    def observe(self, finished: Callable[[Completed], None]) -> None:
        """Calls `finished` with every picture of a job that is computed from now on."""
        ...

    def content(self, file: StoredFile) -> AsyncGenerator[bytes, None]:
        """The bytes of a file. Raises `transfer.errors.MediaError` if it is gone."""
        ...

    def preview(self, media: Media) -> AsyncGenerator[bytes, None]:
        """The bytes of what an event has `shown`. Raises `transfer.errors.MediaError` if it is
        gone, as it is when there is a later one, or the picture itself."""
        ...

    def local_path(self, file: StoredFile) -> Path | None:
        """Where the file lies, if it lies on this machine: then it is served with ranges."""
        ...


class MediaSource(Protocol):
    """Finished files, wherever they lie. `chunks` raises `transfer.errors.MediaError` when a file
    is gone; `large`: in pieces for a thread that writes them, not for the event loop. `release`
    says that it is no longer needed, and never raises."""

    def chunks(self, media: Media, large: bool = False) -> AsyncGenerator[bytes, None]: ...

    async def release(self, media: Media) -> None: ...

    async def close(self) -> None: ...
