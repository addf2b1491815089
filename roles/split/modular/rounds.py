"""One request's run through the blocks of a stage: how far their loops are.

A loop of a modular pipeline tells its progress bar how many steps it will take, and when one is
over; or it takes steps with a timestep scheduler, perhaps with another schedule for each of several
rounds. Blocks are shared by all requests: each run has copies of its own.
"""

import copy
import functools
import sys
from typing import Any

from diffusers.modular_pipelines.modular_pipeline import PipelineState

from roles.split.decoding.clean import Watched
from roles.split.denoising.door import Coroutine
from roles.split.modular.bar import Bar
from roles.split.modular.computing import is_loop

_TOLD = "_num_timesteps"  # where a pipeline says how many steps its loop has


class Rounds:
    """Of these blocks, with the components of this view; `coroutine` is told how far it is."""

    def __init__(self, blocks: Any, view: Any, coroutine: Coroutine | None) -> None:
        self._view = view
        self._coroutine = coroutine
        self._bar = False  # a progress bar says how many steps there are
        self._blocks = self._own(blocks)
        self._counted = hasattr(getattr(view, "scheduler", None), "step")
        if coroutine is not None and self._counted:
            self._watch_schedules(view.scheduler)

    def run(self, state: PipelineState) -> None:
        self._blocks(self._view, state)

    def _own(self, block: Any) -> Any:
        """A copy of a block, and of those inside of it, whose progress bars are ours."""
        own = copy.copy(block)
        own.sub_blocks = type(block.sub_blocks)(
            (name, self._own(part)) for name, part in block.sub_blocks.items()
        )
        if is_loop(block):
            own.progress_bar = lambda iterable=None, total=None: Bar(self, iterable, total)
            own.loop_step = functools.partial(self._lap, own)
        return own

    def _lap(self, loop: Any, components: Any, block_state: Any, **counted: Any) -> Any:
        """A turn of a loop: the loop's own, whose ends are told."""
        turn = functools.partial(type(loop).loop_step, loop, components, **counted)
        coroutine = self._coroutine
        if coroutine is None or (course := coroutine.course) is None:
            return turn(block_state)
        course.lap_begins(loop, block_state, sys._getframe(1), coroutine)
        components, block_state = turn(block_state)
        coroutine.settle()
        course.lap_ends(block_state, coroutine.step + (not self._counted), coroutine)
        return components, block_state

    def _watch_schedules(self, scheduler: Any) -> None:
        """A schedule that is set in the middle of a request is another round."""
        coroutine = self._coroutine
        assert coroutine is not None

        def tell(*_: Any) -> None:
            if not self._bar:
                self._view.__dict__[_TOLD] = coroutine.step + len(scheduler.timesteps)

        scheduler.set_timesteps = Watched(scheduler, tell, "set_timesteps")

    def begin(self, total: int | None) -> None:
        """A loop says how many steps it will take."""
        if total is not None and self._coroutine is not None:
            self._bar = True
            self._view.__dict__[_TOLD] = self._coroutine.step + total

    def advance(self, count: int) -> None:
        """Steps of a loop are over."""
        if self._coroutine is not None and not self._counted:
            self._coroutine.advance(count)
