"""The core and the desk under random faults: every seed is a cluster and a story of its own."""

import os
import subprocess
import sys

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, can_be_made, judge
from tests.simulation.runs import failures, live, story
from tests.simulation.world import World

SEEDS = 2000
MUTATED = 200
"""Seeds at most for each deliberate bug; most are found by the first few. Those that take more are
left to `python -m tests.simulation --mutations`."""
STEPS = 1200


@pytest.mark.timeout(1800)  # 4 minutes of two cores; there are machines with less
def test_2000_seeds_hold() -> None:
    """I1 to I5, I7, I8, I11 and I12, and law 3: nothing is written into slots that are free or
    somebody else's, and nothing is used that was not delivered."""
    for failure in failures(range(SEEDS), len(os.sched_getaffinity(0))):
        pytest.fail(story(failure.seed))


def test_what_was_denoised_goes_on_elsewhere_in_some_of_them() -> None:
    """From a copy when its denoiser is dead, from a checkpoint when it drains."""
    wanted = {"copies_made", "copies_dropped", "attempts_from_copies", "attempts_moved"}
    for seed in range(200):
        world = World(seed, accident_rate=0.03)
        live(world)
        wanted -= set(world.orchestrator.machine.counters)
        if not wanted:
            return
    pytest.fail(f"never happened: {wanted}")


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_everything_is_completed(seed: int) -> None:
    world = World(seed, accident_rate=0.0, failures=False)
    for _ in range(STEPS):
        world.step()
    world.quiesce()
    world.assert_home()
    assert set(world.results) <= {"completed", "cancelled", "deadline", "previews"}
    assert world.results["completed"] >= 5


def test_a_seed_runs_the_same_again() -> None:
    """In another process, where strings hash otherwise."""
    code = "from tests.simulation.runs import digest; print([digest(seed) for seed in range(8)])"
    told = set()
    for hashing in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        told.add(done.stdout)
    assert len(told) == 1


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_deliberate_bugs_are_found(mutation: Mutation) -> None:
    if mutation.rare:
        assert can_be_made(mutation)
    else:
        assert judge(mutation, MUTATED).seeds is not None
