"""The transformer's door: a request's pipeline as a coroutine that stops at every forward.

The pipeline runs in a greenlet of its own. Where it calls the transformer, the door hands the
arguments to whoever resumed it and waits there; batching, fairness, cancelling and progress all
happen on the other side of that switch, for every family alike. Branches of guidance that it calls
one after the other wait there together (`roles.split.denoising.branches`).
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from diffusers.hooks.hooks import HookRegistry, StateManager
from greenlet import getcurrent  # type: ignore[import-untyped]

from roles.split import finite
from roles.split.decoding.clean import Watched
from roles.split.decoding.preview import Seen
from roles.split.denoising.answers import Answers
from roles.split.denoising.batching import key_of
from roles.split.denoising.branches import Branches, Outlines
from roles.split.denoising.footprint import footprint
from roles.split.denoising.forward import Forward, Outputs
from roles.split.denoising.loop import CALLBACK, NotPortable
from roles.split.denoising.snapshot import Snapshots
from roles.split.denoising.standing import Standing
from roles.split.denoising.step_cache import Hooks
from roles.split.face import Face
from roles.split.modular.course import Course
from roles.split.program import Checkpoint, NoPreview, TransformerCall
from roles.split.randomness import GlobalRandomness
from roles.split.request.refusals import check_batch
from roles.split.weights.adapters import Worn
from transfer.messages import StepCache


class Coroutine(Standing):
    """A pipeline standing at the door; the `Denoising` of classic pipelines.

    `program(self)` runs the pipeline with the faces of `door`, and returns its result. `leave` is
    called once, when the pipeline has ended in whichever way. `cache`: the request's step cache,
    which faces with `cached` have. `outlines` are the program's; without them each forward is
    waited for where the pipeline calls it.
    """

    def __init__(
        self,
        request: str,
        steps: int,
        program: "Callable[[Coroutine], Any]",
        randomness: GlobalRandomness,
        leave: Callable[[], None] = lambda: None,
        cache: StepCache | None = None,
        outlines: Outlines | None = None,
        preview: "Callable[[Seen], Any] | None" = None,
    ) -> None:
        super().__init__(request, lambda: self._whole(program), randomness, leave)
        self.step = 0
        self.steps = steps
        self.pending: tuple[TransformerCall, ...] = ()
        self.forwards = 0
        self.seen = Seen()
        self.checkpoint: Checkpoint | None = None
        self._marked = False
        self._silent: str | None = None  # why there are no checkpoints
        self._snapshots: Snapshots | None = None
        self._forward: Forward | None = None
        self.course: Course | None = None  # of blocks that can be gone on with
        self._answers: Answers | None = None
        self._outputs = Outputs()
        self._watch: Callable[[TransformerCall], None] = lambda call: None
        self._view: Any = None
        self._caching: list[Any] = []
        self.cache = cache
        self._hooks: list[Hooks] = []
        self.worn: Worn | None = None  # set before `start`
        self.beside = True  # models compute in its pipeline that do not wait at the door
        self.alone: str | None = None  # why its forwards run alone
        self._preview = preview
        self._branches = Branches(self._forwards, outlines, self._past_the_door)

    def resume(self, outputs: Sequence[Any]) -> None:
        assert len(outputs) == len(self.pending) > 0, "one result for each pending forward"
        for call, output in zip(self.pending, outputs, strict=True):
            self.seen.outputs[call.name] = output
        self._switch(self._greenlet.switch, outputs)

    def mark(self) -> None:
        self._marked = True
        if self._silent is not None:
            self.offer(self.step, lambda: self._replayed(self._silent))

    def preview(self) -> Any:
        if self._preview is None:
            raise NoPreview("there are none of this pipeline")
        return self._preview(self.seen)

    @property
    def forms(self) -> dict[str, Any] | None:
        """The forms of what its forwards gave so far, as plain values; None if they cannot be
        told."""
        return self._outputs.tree() if self._outputs.crosses else None

    def keep(
        self, snapshots: Snapshots, forward: Forward | None, answers: Answers | None = None
    ) -> None:
        """Called before `start`: what takes the checkpoints, and what is passed over first.
        `answers`: of a pipeline whose state cannot always be seen; with those of an earlier life,
        which are given first."""
        self._snapshots = snapshots
        self._forward = forward
        self._answers = answers
        if forward is not None:
            self._outputs = forward.outputs

    def follow(self, course: Course) -> None:
        """Called before `start`, of blocks: what takes the checkpoints, and what comes first."""
        self.course = course
        self._outputs = course.outputs

    def watch(self, view: Any, before_forward: Callable[[TransformerCall], None]) -> None:
        """Counts the steps of this view's loop, and calls `before_forward` at each forward."""
        self._view, self._watch = view, before_forward
        self.seen.watch(view)
        if CALLBACK not in inspect.signature(type(view).__call__).parameters:
            if self.course is None:
                self._silent = f"{type(view).__name__}: it has no {CALLBACK}"
            self._count_scheduler_steps(view)

    def count(self, view: Any, index: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The pipeline's `callback_on_step_end`; gives back what it has changed, and no more: some
        pipelines show one set of latents and take another one back."""
        self._branches.settle()
        self.step = index + 1
        if self._forward is not None:
            if self._forward.step_ends(view, self.step, kwargs):
                self._forward = None
                self.seen.go_on(kwargs["latents"])
                return kwargs
        elif self._marked and self.step < self.steps:
            self._mark(view, sys._getframe(1), kwargs)
        return {}

    def _mark(self, view: Any, frame: FrameType, kwargs: dict[str, Any]) -> None:
        snapshots, step = self._snapshots, self.step
        if snapshots is None:  # it runs whole
            self._marked = False
            return

        def make() -> Checkpoint:
            taken = snapshots.take(view, frame, step, kwargs, self._outputs)
            return taken if taken.payload is not None else self._replayed(taken.why_not)

        self.offer(step, make)

    def offer(self, step: int, make: Callable[[], Checkpoint]) -> None:
        """Here a checkpoint can be made, when so many steps are complete."""
        if not self._marked or (self.course and self.course.answering):
            return
        if self.steps and step >= self.steps:
            return
        self._marked = False
        if self.cache or any(remembers(module, self.request) for module in self._caching):
            why_not = f"{type(self._view).__name__}: a step cache keeps something of it"
            self.checkpoint = Checkpoint(step, None, why_not)
        else:
            self.checkpoint = make()

    def _replayed(self, why_not: str | None) -> Checkpoint:
        """`why_not`: why the state at the end of a step cannot be taken."""
        if self._answers is None or self._snapshots is None:
            return Checkpoint(self.step, None, why_not)
        return self._snapshots.replayed(self.step, self._answers)

    def _count_scheduler_steps(self, view: Any) -> None:
        scheduler = getattr(view, "scheduler", None)
        if scheduler is not None and hasattr(scheduler, "step"):
            scheduler.step = Watched(scheduler, lambda *_: self.advance(1))

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        if self.worn is not None and self.beside:
            self.worn.on_all()
        with super()._in_place():
            yield

    def advance(self, count: int) -> None:
        """So many steps more are complete."""
        self.settle()
        self.step += count
        if self.course is not None:
            self.course.step_ends(self)

    def settle(self) -> None:
        """Computes all forwards that the pipeline has asked for."""
        self._branches.settle()

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

        @functools.wraps(module.forward)  # modular pipelines look at its signature
        def forward(*args: Any, **kwargs: Any) -> Any:
            context, fields = contexts[-1] if contexts else (None, {})
            number = self.forwards
            call = TransformerCall(
                module, name, args, kwargs, context, fields, hooks, number, self.worn, self.alone
            )
            return self._called(call)

        answers: dict[str, Any] = {"__call__": forward, "forward": forward}
        if hasattr(module, "cache_context"):
            self._caching.append(module)
            answers["cache_context"] = cache_context
            # the pipeline's clean-up would wipe what the other requests keep in there
            answers["_reset_stateful_cache"] = lambda recurse=True: forget(module, self.request)
        return _Transformer(module, answers, self._branches)

    def _own_hooks(self, module: Any) -> Hooks | None:
        if self.cache is None:
            return None
        hooks = Hooks(module, self.cache, lambda: self._view.current_timestep)
        self._hooks.append(hooks)
        return hooks

    def _whole(self, program: "Callable[[Coroutine], Any]") -> Any:
        result = program(self)
        self._branches.settle()  # some may be in the result
        for name, output in self.seen.outputs.items():
            finite.check(name, output)
        return result

    def _called(self, call: TransformerCall) -> Any:
        self._watch(call)
        check_batch(call.args, call.kwargs)
        self.forwards += 1
        self.steps = _steps_of(self._view) or self.steps
        if self._forward is not None:
            return self._outputs.zeros(call.number)
        if self.course is not None and self.course.answering:
            return self.course.answer(call.number)
        if self._answers is not None and self._answers.waiting:
            output = self._answers.again()
            self._outputs.note(call.number, output)
            return output
        return self._branches.ask(call)

    def _forwards(self, calls: Sequence[TransformerCall]) -> list[Any]:
        """What these forwards give. Those of one key wait together."""
        if getcurrent() is not self._greenlet:
            raise RuntimeError(f"the results of request {self.request} are its pipeline's alone")
        outputs: dict[TransformerCall, Any] = {}
        while missing := [call for call in calls if call not in outputs]:
            first = key_of(missing[0]) if len(missing) > 1 else None
            together = [c for c in missing if c is missing[0] or (first and key_of(c) == first)]
            with self._untouched(together):
                outputs |= zip(together, self._wait(tuple(together)), strict=True)
        return self._noted(calls, [outputs[call] for call in calls])

    def _past_the_door(self, calls: Sequence[TransformerCall]) -> list[Any]:
        with self._untouched(calls):
            outputs = [call.run() for call in calls]
        return self._noted(calls, outputs)

    @contextlib.contextmanager
    def _untouched(self, calls: Sequence[TransformerCall]) -> Iterator[None]:
        """Looks whether these forwards keep anything in what they are given."""
        answers = self._answers if self.course is None else self.course.noting
        if answers is None or not answers.recording:
            yield
            return
        given = [(call.args, call.kwargs) for call in calls]
        before = _footprint(given, answers)
        yield
        if _footprint(given, answers) != before:
            answers.give_up("its model writes into what it is given")

    def _noted(self, calls: Sequence[TransformerCall], outputs: list[Any]) -> list[Any]:
        for call, output in zip(calls, outputs, strict=True):
            self._outputs.note(call.number, output)
            if self.course is not None:
                self.course.note(output)
            if self._answers is not None:
                self._answers.note(output)
        return outputs

    def _left_behind(self) -> Exception | None:
        """The error if the step was never reached from which the request was to go on."""
        if self.course is not None and (why := self.course.left_behind()):
            return RuntimeError(why)
        if self._answers is not None and self._answers.waiting:
            return RuntimeError("the pipeline has ended before it came to where it was left")
        if self._forward is None:
            return None
        return RuntimeError(f"the pipeline has no step {self._forward.until} to go on from")

    def _clean_up(self) -> None:
        self._branches.drop()
        if self.course is not None:
            self.course.close()
        for module in self._caching:
            forget(module, self.request)
        for hooks in self._hooks:
            hooks.forget()


class _Transformer(Face):
    """A transformer as its pipeline sees it. Whatever the pipeline does with it but ask what it is
    and call it, might change what the calls that wait would give: they are computed first."""

    HARMLESS = frozenset(("forward", "cache_context", "config", "dtype", "device", "training"))

    def __init__(self, module: Any, answers: dict[str, Any], branches: Branches) -> None:
        super().__init__(module, answers)
        self.__dict__["_branches"] = branches

    def __getattr__(self, name: str) -> Any:
        if name not in self.HARMLESS and "_branches" in self.__dict__:
            self._branches.settle()
        return super().__getattr__(name)


def _footprint(given: Any, answers: Answers) -> Any:
    try:
        return footprint(given)
    except NotPortable as reason:
        answers.give_up(str(reason))


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
