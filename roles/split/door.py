"""The transformer's door: a request's pipeline as a coroutine that stops at every forward.

The pipeline runs in a greenlet of its own. Where it calls the transformer, the door hands the
arguments to whoever resumed it and waits there; batching, fairness, cancelling and progress all
happen on the other side of that switch, for every family alike.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType
from typing import Any

from diffusers.hooks.hooks import HookRegistry, StateManager
from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from roles.split.face import Face
from roles.split.forward import Forward, Outputs
from roles.split.loop import CALLBACK
from roles.split.program import Cancelled, Checkpoint, TransformerCall
from roles.split.randomness import GlobalRandomness
from roles.split.snapshot import Snapshots
from roles.split.step_cache import Hooks
from transfer.messages import StepCache


class Coroutine:
    """A pipeline standing at the door; the `Denoising` of classic pipelines.

    `program(self)` runs the pipeline with the faces of `door`, and returns its result. `leave` is
    called once, when the pipeline has ended in whichever way. `cache`: the request's step cache,
    which faces with `cached` have. `snapshots` takes the checkpoints; `forward`: what is passed
    over at the beginning.
    """

    def __init__(
        self,
        request: str,
        steps: int,
        program: "Callable[[Coroutine], Any]",
        randomness: GlobalRandomness,
        leave: Callable[[], None] = lambda: None,
        cache: StepCache | None = None,
        snapshots: Snapshots | None = None,
        forward: Forward | None = None,
    ) -> None:
        self.request = request
        self.step = 0
        self.steps = steps
        self.pending: TransformerCall | None = None
        self.done = False
        self.forwards = 0
        self.checkpoint: Checkpoint | None = None
        self._marked = False
        self._silent: str | None = None  # why there are no checkpoints
        self._snapshots = snapshots
        self._forward = forward
        self._outputs = Outputs() if forward is None else forward.outputs
        self._watch: Callable[[], None] = lambda: None
        self._view: Any = None
        self._caching: list[Any] = []
        self.cache = cache
        self._hooks: list[Hooks] = []
        self._randomness = randomness
        self._leave = leave
        self._result: Any = None
        self._error: BaseException | None = None
        self._fresh = True
        self._greenlet = greenlet(lambda: program(self))

    def start(self) -> None:
        assert self._fresh, "started already"
        self._fresh = False
        self._switch(self._greenlet.switch)

    def resume(self, output: Any) -> None:
        assert self.pending is not None, "nothing is pending"
        self._switch(self._greenlet.switch, output)

    def cancel(self) -> None:
        if self.done:
            return
        if not self._fresh:
            self._switch(self._greenlet.throw, _Leave)
        self._end(Cancelled(f"request {self.request} was cancelled"))

    def result(self) -> Any:
        assert self.done, "still running"
        if self._error is not None:
            raise self._error
        return self._result

    def mark(self) -> None:
        if self._silent is not None:
            self.checkpoint = Checkpoint(self.step, None, self._silent)
        self._marked = True

    def watch(self, view: Any, before_forward: Callable[[], None]) -> None:
        """Counts the steps of this view's loop, and calls `before_forward` at each forward."""
        self._view, self._watch = view, before_forward
        if CALLBACK not in inspect.signature(type(view).__call__).parameters:
            self._silent = f"{type(view).__name__}: it has no {CALLBACK}"
            self._count_scheduler_steps(view)

    def count(self, view: Any, index: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The pipeline's `callback_on_step_end`."""
        self.step = index + 1
        if self._forward is not None:
            if self._forward.step_ends(view, self.step, kwargs):
                self._forward = None
        elif self._marked and self.step < self.steps:
            self._mark(view, sys._getframe(1), kwargs)
        return kwargs

    def _mark(self, view: Any, frame: FrameType, kwargs: dict[str, Any]) -> None:
        self._marked = False
        if self._snapshots is None:
            return
        self.checkpoint = self._snapshots.take(view, frame, self.step, kwargs, self._outputs)
        if self.cache or any(remembers(module, self.request) for module in self._caching):
            why_not = f"{type(view).__name__}: a step cache keeps something of it"
            self.checkpoint = replace(self.checkpoint, why_not=why_not)

    def _count_scheduler_steps(self, view: Any) -> None:
        scheduler = getattr(view, "scheduler", None)
        if scheduler is None or not hasattr(scheduler, "step"):
            return
        original = scheduler.step

        @functools.wraps(original)  # pipelines look at its signature
        def step(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self.step += 1
            return result

        scheduler.step = step

    def face(self, name: str, module: Any, cached: bool = False) -> Face:
        """The transformer as the pipeline sees it: calling it waits at the door."""
        contexts: list[tuple[str, dict[str, Any]]] = []
        hooks = self._own_hooks(module) if cached else None

        @contextlib.contextmanager
        def cache_context(context: str, **fields: Any) -> Iterator[None]:
            contexts.append((f"{self.request}/{context}", fields))
            try:
                yield
            finally:
                contexts.pop()

        def forward(*args: Any, **kwargs: Any) -> Any:
            context, fields = contexts[-1] if contexts else (None, {})
            return self._wait(TransformerCall(module, name, args, kwargs, context, fields, hooks))

        answers: dict[str, Any] = {"__call__": forward, "forward": forward}
        if hasattr(module, "cache_context"):
            self._caching.append(module)
            answers["cache_context"] = cache_context
            # the pipeline's clean-up would wipe what the other requests keep in there
            answers["_reset_stateful_cache"] = lambda recurse=True: forget(module, self.request)
        return Face(module, answers)

    def _own_hooks(self, module: Any) -> Hooks | None:
        if self.cache is None:
            return None
        hooks = Hooks(module, self.cache, lambda: self._view.current_timestep)
        self._hooks.append(hooks)
        return hooks

    def _wait(self, call: TransformerCall) -> Any:
        self._watch()
        self.forwards += 1
        self.steps = _steps_of(self._view) or self.steps
        if self._forward is not None:
            return self._outputs.zeros(call.name, self.forwards - 1)
        self.pending = call
        try:
            output = getcurrent().parent.switch()
        finally:
            self.pending = None
        self._outputs.note(call.name, output)
        return output

    def _switch(self, switch: Callable[..., Any], *args: Any) -> None:
        self._greenlet.parent = getcurrent()
        try:
            with self._randomness.in_place():
                result = switch(*args)
        except _Leave:
            return
        except Exception as error:
            self._end(error)
            return
        if self._greenlet.dead:
            self._result = result
            self._end(self._left_behind())

    def _left_behind(self) -> Exception | None:
        """The error if the step was never reached from which the request was to go on."""
        if self._forward is None or self._forward.until is None:
            return None
        return RuntimeError(f"the pipeline has no step {self._forward.until} to go on from")

    def _end(self, error: BaseException | None) -> None:
        if not self.done:
            self.done, self._error = True, error
            for module in self._caching:
                forget(module, self.request)
            for hooks in self._hooks:
                hooks.forget()
            self._leave()


class _Leave(BaseException):
    """Thrown into a cancelled pipeline; no `except Exception` of its own catches it."""


def _steps_of(view: Any) -> int | None:
    """How many steps a pipeline's loop has, once it knows."""
    count = getattr(view, "_num_timesteps", None)
    if count is None:
        timesteps = getattr(getattr(view, "scheduler", None), "timesteps", None)
        count = None if timesteps is None else len(timesteps)
    return count


def forget(module: Any, request: str) -> None:
    """Drops what the step caches of a transformer keep for one request."""
    for states, name in _cached(module, request):
        states._state_cache.pop(name, None)  # some are found in two places


def remembers(module: Any, request: str) -> bool:
    """Whether the step caches of a transformer keep anything for one request."""
    return bool(_cached(module, request))


def _cached(module: Any, request: str) -> list[tuple[StateManager, str]]:
    if not hasattr(module, "_diffusers_hook"):
        return []
    registry = HookRegistry.check_if_exists_or_initialize(module)
    registries = (registry, *registry._get_child_registries())
    values = [v for r in registries for hook in r.hooks.values() for v in vars(hook).values()]
    states = [value for value in values if isinstance(value, StateManager)]
    return [(s, name) for s in states for name in s._state_cache if name.startswith(f"{request}/")]
