"""The desk in storms: whatever fails in whatever order, each promise is kept exactly once."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.simulated_desk import DeskWorld

STEPS = 1000


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32))
def test_every_promise_is_kept_once_whatever_fails(seed: int) -> None:
    world = DeskWorld(seed)
    for _ in range(STEPS):
        world.step()
    world.quiesce()
    world.assert_home()


@pytest.mark.parametrize("seed", range(3))
def test_without_faults_every_job_is_completed_or_cancelled(seed: int) -> None:
    world = DeskWorld(seed, faults=False)
    for _ in range(STEPS):
        world.step()
    world.quiesce()
    world.assert_home()
    assert set(world.ends.values()) == {"completed", "cancelled"}
    assert set(world.ends) == world.promised
