"""From latents in the middle of a loop to the arguments of the VAE's `decode`, for any pipeline.

The pipeline runs once more, beside the request: its transformer gives zeros, and the steps of its
timestep scheduler the latents that are to be seen. So the loop passes in no time, and what follows
it does what it always does: unpacks, scales and shifts, up to `decode`.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from roles.split.decoding.clean import LastStep
from roles.split.decoding.skipping import zeros
from roles.split.encoding.replay import mapped
from roles.split.face import Face
from roles.split.program import NoPreview
from roles.split.randomness import GlobalRandomness
from transfer.record import Record

log = logging.getLogger(__name__)


class Seen:
    """What a request's loop was seen doing: `outputs` has the latest output of each component that
    computes there, by name."""

    def __init__(self) -> None:
        self.outputs: dict[str, Any] = {}
        self._last: LastStep | None = None

    def watch(self, view: Any) -> None:
        """Follows the steps of this view's timestep scheduler, if it has one."""
        scheduler = getattr(view, "scheduler", None)
        if scheduler is not None and hasattr(scheduler, "step"):
            self._last = LastStep(scheduler)

    def go_on(self, latents: torch.Tensor) -> None:
        """The request goes on in the middle of its loop, where these are the latents."""
        if self._last is not None:
            self._last.restart(latents)

    @contextlib.contextmanager
    def carried_on(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Within the block the values of a loop that was passed over become those with which it
        goes on: also what its latest step gave, wherever that is among them."""
        last = self._last.result if self._last is not None else None
        names = [name for name, value in values.items() if value is last and last is not None]
        yield
        if self._last is not None:
            self._last.restart(values[names[0]] if names else None)

    @property
    def last(self) -> LastStep:
        """The latest step. Raises `NoPreview`."""
        if self._last is None:
            raise NoPreview("its pipeline has no timestep scheduler that is known")
        if not self._last.taken:
            raise NoPreview("it has not taken a step yet")
        return self._last


class Looks:
    """The runs for previews of one program. `pipeline`: its class's name, for the log."""

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._told = False  # that there are none

    @contextlib.contextmanager
    def at(
        self, seen: Seen, randomness: GlobalRandomness, settle: Callable[[], None]
    ) -> "Iterator[Shadow]":
        """Where the pipeline runs for a preview; `settle` is called in the end. Raises `NoPreview`,
        whatever goes wrong there."""
        shadow = Shadow(seen)
        try:
            with randomness.in_place():
                yield shadow
        except Exception as error:
            if not self._told:
                self._told = True
                log.warning("%s gives no previews", self._pipeline, exc_info=True)
            raise NoPreview(f"{type(error).__name__}: {error}") from error
        finally:
            settle()


class Shadow:
    """The parts of a pipeline that is run for a preview only."""

    def __init__(self, seen: Seen) -> None:
        self._outputs: Mapping[str, Any] = dict(seen.outputs)
        self._values = seen.last.values
        self._latents = seen.last.clean()

    def face(self, name: str, module: Any) -> Face:
        """A component that computes in the loop, and here gives zeros."""

        @functools.wraps(module.forward)  # modular pipelines look at its signature
        def forward(*args: Any, **kwargs: Any) -> Any:
            known = self._outputs.get(name)
            return zeros(*args, **kwargs) if known is None else mapped(known, torch.zeros_like)

        @contextlib.contextmanager
        def cache_context(*args: Any, **kwargs: Any) -> Iterator[None]:
            yield

        answers: dict[str, Any] = {"__call__": forward, "forward": forward}
        answers["cache_context"] = cache_context
        answers["_reset_stateful_cache"] = lambda recurse=True: None
        return Face(module, answers)

    def put(self, view: Any) -> None:
        """Lets the steps of the view's own timestep scheduler give the latents to be seen."""
        scheduler = view.scheduler

        @functools.wraps(scheduler.step)  # pipelines look at its signature
        def step(*args: Any, **kwargs: Any) -> Any:
            latents = self._latents.clone()
            if self._values is None:
                return Record(prev_sample=latents, pred_original_sample=latents)
            return (latents,) * self._values

        scheduler.step = step
