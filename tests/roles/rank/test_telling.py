"""What a rank says of its steps while it takes them: now and then, and never late."""

from dataclasses import dataclass
from typing import Any

from roles.calls import Begin, Key, Run, StepDone
from roles.rank.runner import Runner
from roles.rank.telling import INTERVAL_S, Telling
from tests.support.scripted_program import ScriptedProgram
from transfer.messages import Inputs
from transfer.pool import SlotPool


@dataclass
class Loop:
    step: int
    steps: int = 50


@dataclass
class Request:
    key: Key
    denoising: Any


def test_a_step_is_told_at_once_and_the_next_ones_after_a_while() -> None:
    now, told = [100.0], []
    telling = Telling(told.append, lambda: now[0])
    pair = [Request(("a", 1), Loop(0)), Request(("b", 2), Loop(7))]
    for number in range(1, 31):
        pair[0].denoising.step = number
        telling(pair)
        now[0] += INTERVAL_S / 9.5
    assert [steps[0].step for steps in told] == [1, 11, 21]
    assert told[0] == [StepDone("a", 1, 1, 50), StepDone("b", 2, 7, 50)]


def test_a_rank_tells_of_a_turn_of_many_steps_before_it_is_over() -> None:
    """But for the last step, of which the outcome tells."""
    told = _told(rank=0)
    assert told[0] == StepDone("r", 1, 1, 9)
    steps = [each.step for each in told]
    assert steps == sorted(set(steps))
    assert steps[-1] < 9


def test_only_the_first_of_several_ranks_tells() -> None:
    assert _told(rank=1) == []


def _told(rank: int) -> list[StepDone]:
    """Of a turn that takes all nine steps."""
    told: list[StepDone] = []
    pool = SlotPool.create(4, 1 << 16, 4)
    runner = Runner(
        ScriptedProgram(), pool, rank, 1, lambda: None, 600.0, lambda: False, tell=told.extend
    )
    runner.begin(Begin("r", 1, "monolithic", Inputs({"steps": 9}, seed=1), None))
    (outcome,) = runner.run(Run("step", ((("r", 1),),))).outcomes
    assert outcome.step == 9
    runner.close()
    pool.close()
    return told
