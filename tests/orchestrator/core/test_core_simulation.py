"""The core under random faults: every seed is a cluster, a network and a story of its own."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.core.commands import Completed
from tests.support.bench import KIB, Bench, Scripted
from tests.support.simulated_cluster import World
from transfer.messages import Push, Work

STEPS = 1200


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_invariants_hold_after_every_event_and_everything_comes_home(seed: int) -> None:
    """I1 (one end), I2 (one result), I3 (capacity), I4 (slots), and law 3: nothing is written into
    slots that are free or somebody else's, and nothing is read that was not delivered."""
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.quiesce()
    world.assert_home()


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_everything_is_completed(seed: int) -> None:
    world = World(seed, accident_rate=0.0, failures=False)
    for _ in range(STEPS):
        world.step()
    world.quiesce()
    world.assert_home()
    assert set(world.results) <= {"completed", "cancelled", "deadline"}
    assert world.results["completed"] > 5


def test_t4_slot_sizes_are_conserved_over_1000_mixed_requests() -> None:
    dice = random.Random(4)
    bench = Bench()
    encoder, denoiser, decoder = bench.trio(slots=9, slot_bytes=KIB, capacity=3)
    for number in range(1000):
        bench.submit(f"r{number}")
        _work_off(bench, dice, encoder, denoiser, decoder)
    assert len(bench.results) == 1000
    assert all(isinstance(bench.result(id), Completed) for id in bench.results)
    bench.assert_home()
    for leader in (denoiser, decoder):
        table = bench.machine.books.registry.by_name[leader.name].slots
        assert sorted(table._free) == list(range(9))
        assert table.nbytes == 9 * KIB


def _work_off(bench: Bench, dice: random.Random, *leaders: Scripted) -> None:
    """Everybody does what there is to do, with payloads of random sizes."""
    for leader in leaders:
        while leader.got(Work):
            work = leader.take(Work)
            if work.delivery is not None:
                leader.accepts(work)
            if work.last:
                leader.finishes(work)
                continue
            nbytes = dice.choice([1, 100, KIB, KIB + 1, 4 * KIB, 9 * KIB])
            room = len(work.grant.slots) * KIB if work.grant else 0
            if nbytes <= room:
                leader.delivers(work, nbytes)
                continue
            leader.stages(work, nbytes, work.grant.generation if work.grant else None)
            leader.delivers(work, nbytes, grant=leader.take(Push).grant)
