"""The course of a modular request through its denoising loop, and how another program takes it up.

There are two ways, and both run the pipeline's own program from its beginning:

- Where a loop of blocks ends a turn, all its state can be seen (`roles.split.modular.snapshot`).
  The turns before are passed over with zeros in the place of what the forwards gave; then the state
  is put in place.
- Where it is not seen, in the middle of a block that has a loop of its own, or if a loop keeps
  something to itself, each forward is answered with what it gave (`roles.split.denoising.answers`).

A video that is made piece by piece takes both: to the end of the last piece in the first way, from
there in the second.
"""

import ast
import functools
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from diffusers.modular_pipelines.modular_pipeline import PipelineState

from roles.split.denoising.answers import Answers
from roles.split.denoising.forward import Outputs
from roles.split.denoising.loop import NotPortable, source_of
from roles.split.denoising.snapshot import containers, own
from roles.split.denoising.together import is_out_of_memory
from roles.split.modular.base import Base
from roles.split.modular.snapshot import LapSnapshots
from roles.split.program import Checkpoint
from roles.split.randomness import GlobalRandomness
from roles.split.view import Pipeline

if TYPE_CHECKING:
    from roles.split.denoising.door import Coroutine

CHECKPOINT = "checkpoint"


class Course:
    """One request's. Its coroutine asks it for what answers a forward; the blocks' loops
    (`roles.split.modular.rounds`) tell of their turns, and the coroutine of its steps.

    `payload` is that of the encoder, or of a checkpoint, which has besides

    - snapshot: the state at the end of a turn; None: the stage's beginning
    - answers: what the forwards gave since then
    """

    def __init__(
        self,
        pipeline: Pipeline,
        generator: torch.Generator,
        randomness: GlobalRandomness,
        payload: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        begun: Mapping[str, Any] = payload.get(CHECKPOINT) or {"snapshot": None, "answers": ()}
        self._name = type(pipeline).__name__
        self._payload = containers({k: v for k, v in payload.items() if k != CHECKPOINT})
        self._given = Base(self._payload)
        self._snapshots = LapSnapshots(pipeline, generator, randomness)
        self._base: dict[str, Any] | None = begun["snapshot"]
        self._passing = self._base is not None
        self._answers = Answers(device, begun["answers"])
        self._recording = True
        self._laps = 0
        self._frame: FrameType | None = None
        self._turns = 0  # of the loop that it is in
        self._hidden = True  # its steps are taken inside of a block
        outputs = self._base["outputs"] if self._base is not None else None
        self.outputs = Outputs.of(outputs) if outputs is not None else Outputs()

    def begin(self, view: Pipeline, state: PipelineState) -> None:
        self._snapshots.begin(view, state)

    def close(self) -> None:
        self._frame = None
        self._snapshots.close()

    # ------------------------------------------------------------ forwards

    @property
    def noting(self) -> Answers | None:
        """What the next forward's result goes into."""
        return self._answers if self._recording else None

    @property
    def answering(self) -> bool:
        """Whether the next forward is one of an earlier life."""
        return self._passing or self._answers.waiting

    def answer(self, number: int) -> Any:
        """What forward `number` gave then, or zeros that stand for it."""
        if self._passing:
            return self.outputs.zeros(number)
        output = self._answers.again()
        self.outputs.note(number, output)
        return output

    def note(self, output: Any) -> None:
        """A forward gave this."""
        if self._recording:
            self._answers.note(output)

    def left_behind(self) -> str | None:
        """Why the pipeline should not have ended."""
        if not self.answering:
            return None
        return "the pipeline ended before it came to where it was to go on from"

    # ------------------------------------------------------------ steps and turns

    def step_ends(self, coroutine: "Coroutine") -> None:
        """A step was counted, perhaps in the middle of a block."""
        if self._hidden:
            coroutine.offer(coroutine.step, lambda: self._from_answers(coroutine.step))

    def lap_begins(
        self, loop: Any, block_state: Any, frame: FrameType, coroutine: "Coroutine"
    ) -> None:
        """`frame` is that of the loop's function."""
        if frame is not self._frame:
            self._frame, self._turns = frame, 0
            kinds: list[type] = [type(each) for each in loop.sub_blocks.values()]
            self._hidden = any(map(takes_steps, kinds))
            self._snapshots.loop_begins(loop, block_state, frame, coroutine.forwards)
        self._snapshots.lap_begins(block_state)

    def lap_ends(self, block_state: Any, step: int, coroutine: "Coroutine") -> None:
        """`step`: how many are complete."""
        self._laps += 1
        self._turns += 1
        if self._passing:
            self._pass(block_state, coroutine)
        elif self._answers.waiting:
            return
        elif self._hidden:
            self._begin_anew(block_state)
            self.step_ends(coroutine)
        else:
            if self._recording and self._known(block_state):
                self._recording = False
                self._answers.drop()
            coroutine.offer(step, lambda: self._from_here(step, block_state))

    def _known(self, block_state: Any) -> bool:
        """Whether all that this loop leaves to its next turn can be seen. What it does between two
        turns, and to what it has kept from one, shows in the second."""
        return self._turns > 1 and self._taken(block_state) is not None

    def _pass(self, block_state: Any, coroutine: "Coroutine") -> None:
        assert self._base is not None
        if self._laps < self._base["lap"]:
            return
        # copies, for the loop goes on to write to what it is given
        snapshot = {k: own(v, k) for k, v in self._base.items() if k != "outputs"}
        with coroutine.seen.carried_on(vars(block_state)):
            self._snapshots.put(block_state, snapshot)
        self._passing = False

    def _begin_anew(self, block_state: Any) -> None:
        """From now on, answers are those since this turn, if it can be gone on from."""
        taken = self._taken(block_state)
        if taken is not None:
            self._base, self._recording = taken, True
            self._answers.drop()

    def _taken(self, block_state: Any) -> dict[str, Any] | None:
        try:
            return self._snapshots.take(block_state, self._laps, self.outputs)
        except NotPortable:
            return None
        except Exception as error:  # nobody has asked for it: it must not be the request's end
            if not is_out_of_memory(error):
                raise
            return None

    # ------------------------------------------------------------ checkpoints

    def _from_here(self, step: int, block_state: Any) -> Checkpoint:
        if self._recording:
            return self._from_answers(step)
        try:
            taken = self._snapshots.take(block_state, self._laps, self.outputs)
            return self._checkpoint(step, taken, [])
        except NotPortable as reason:
            return self._none(step, reason)

    def _from_answers(self, step: int) -> Checkpoint:
        try:
            if not self._recording:  # its state could be seen before, and cannot now
                raise NotPortable("a loop within a block follows one of blocks")
            return self._checkpoint(step, self._base, self._answers.tree())
        except NotPortable as reason:
            return self._none(step, reason)

    def _checkpoint(self, step: int, base: dict[str, Any] | None, answers: list[Any]) -> Checkpoint:
        if self._given.changes(self._payload):
            raise NotPortable("it changes what its encoders gave")
        begun = {"snapshot": base, "answers": answers}
        return Checkpoint(step, {**self._payload, CHECKPOINT: begun})

    def _none(self, step: int, reason: NotPortable) -> Checkpoint:
        return Checkpoint(step, None, f"{self._name}: {reason}")


@functools.cache
def takes_steps(kind: type) -> bool:
    """Whether a class of blocks has a loop of its own in which a scheduler takes steps."""
    loops = (n for n in ast.walk(source_of(kind.__call__)) if isinstance(n, ast.For | ast.While))
    return any(_is_step(node) for loop in loops for node in ast.walk(loop))


def _is_step(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=of, attr="step")):
            return "scheduler" in ast.unparse(of)
    return False
