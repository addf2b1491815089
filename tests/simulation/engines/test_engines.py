"""Real leaders around the real core, under random faults: every seed is a cluster and a story."""

import os
import subprocess
import sys

import pytest

from tests.simulation.engines.runs import first_failure, live, story
from tests.simulation.engines.world import World
from tests.simulation.mutations import LEADERS, Mutation, can_be_made, judge
from tests.simulation.runs import failures

SEEDS = 40
MUTATED = 60
"""Seeds at most for each deliberate bug. Those that take more are left to `python -m
tests.simulation --mutations`."""


def test_40_seeds_hold() -> None:
    """I1 to I4, I11, I12, and law 3, with the code of leaders that serves."""
    for failure in failures(range(SEEDS), len(os.sched_getaffinity(0)), first_failure):
        pytest.fail(story(failure.seed))


def test_what_was_denoised_goes_on_elsewhere_in_some_of_them() -> None:
    """From a copy when its denoiser is dead, from a checkpoint when it drains."""
    wanted = {"copies_made", "copies_dropped", "attempts_from_copies", "attempts_moved"}
    for seed in range(100):
        world = World(seed, weather=1.0)
        live(world)
        assert world.orchestrator is not None
        wanted -= set(world.orchestrator.machine.counters)
        if not wanted:
            return
    pytest.fail(f"never happened: {wanted}")


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_everything_is_completed(seed: int) -> None:
    world = World(seed, weather=0.0)
    live(world)
    assert set(world.results) <= {"completed", "cancelled", "deadline", "previews"}
    assert world.results["completed"] > 5


def test_a_seed_runs_the_same_again() -> None:
    """In another process, where strings hash otherwise and everything lies elsewhere."""
    code = "from tests.simulation.engines.runs import digest; print([digest(s) for s in range(6)])"
    told = set()
    for hashing in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        told.add(done.stdout)
    assert len(told) == 1


@pytest.mark.parametrize("mutation", LEADERS, ids=lambda mutation: mutation.name)
def test_deliberate_bugs_are_found(mutation: Mutation) -> None:
    if mutation.rare:
        assert can_be_made(mutation)
    else:
        assert judge(mutation, MUTATED).seeds is not None
