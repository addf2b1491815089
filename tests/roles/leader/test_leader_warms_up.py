"""A leader whose ranks run the model once before there is work: seen as `warming` meanwhile."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.leader_process import leader
from tests.support.scripted_orchestrator import ScriptedOrchestrator
from transfer.messages import Speed, StateChanged, StepCache


@pytest_asyncio.fixture
async def them() -> AsyncIterator[ScriptedOrchestrator]:
    async with ScriptedOrchestrator(heartbeat_s=0.5) as made:
        yield made


async def test_it_is_warming_until_it_is_warm(them: ScriptedOrchestrator, tmp_path: Path) -> None:
    gate = tmp_path / "warm"
    settings = {"roles": ("denoiser",), "name": "d", "model": f"warm:{gate}", "compile": True}
    async with leader(them.endpoint, ready=False, **settings) as us:
        said = await them.hear(StateChanged, of="d")
        assert said.state == "warming"
        assert [rank.state for rank in said.ranks] == ["starting"]
        told = them.registered["d"]
        assert [rank.state for rank in told.ranks] == ["starting"]
        assert told.model.speed == Speed(compile=True)
        if said.warmed is None:  # it registered before its ranks had done anything
            said = await them.hear(StateChanged, lambda m: m.warmed is not None, of="d")
        assert (said.state, said.warmed) == ("warming", (1, 4))
        first = asyncio.create_task(us.wait_ready())
        await asyncio.sleep(0)
        gate.touch()
        ready = await them.hear(StateChanged, lambda m: m.state == "ready", of="d")
        assert [rank.state for rank in ready.ranks] == ["ready"]
        assert ready.warmed is None
        await first
        assert us.ready["name"] == "d"


async def test_a_rank_that_is_started_again_is_warmed_again(
    them: ScriptedOrchestrator, tmp_path: Path
) -> None:
    gate = tmp_path / "warm"
    gate.touch()
    settings = {"roles": ("denoiser",), "name": "d", "model": f"warm:{gate}", "compile": True}
    async with leader(them.endpoint, **settings) as us:
        await them.ready("d")
        gate.unlink()
        (rank,) = us.ready["rank_pids"]
        os.kill(rank, signal.SIGKILL)
        await them.hear(StateChanged, lambda m: m.state == "starting", of="d")
        gate.touch()
        await them.hear(StateChanged, lambda m: m.state == "ready", of="d")


async def test_one_that_is_stopped_while_it_warms_up_ends(
    them: ScriptedOrchestrator, tmp_path: Path
) -> None:
    settings = {"roles": ("denoiser",), "model": f"warm:{tmp_path / 'never'}", "quantize": "int8"}
    async with leader(them.endpoint, ready=False, name="d", **settings) as us:
        await them.hear(StateChanged, lambda m: m.state == "warming", of="d")
        us.signal(signal.SIGTERM)
        assert await us.ended() == 0


async def test_what_cannot_run_ends_with_one_line(them: ScriptedOrchestrator) -> None:
    settings = {"roles": ("denoiser",), "name": "d", "model": "cold", "compile": True}
    async with leader(them.endpoint, ready=False, **settings) as us:
        assert await us.ended() == 1
        assert us.stderr.splitlines()[-1] == "triptych: denoiser: cold does not run with compile"
        assert "Traceback" not in us.stderr


@pytest.mark.parametrize("roles", [("encoder",), ("denoiser",)])
async def test_without_such_switches_there_is_no_warm_up(
    them: ScriptedOrchestrator, tmp_path: Path, roles: tuple[str, ...]
) -> None:
    """An encoder has no transformer, and a step cache alone needs none."""
    switches = {
        "encoder": {"compile": True},
        "denoiser": {"step_cache": StepCache("first_block", threshold=0.1)},
    }
    settings = {"roles": roles, "name": "x", "model": f"warm:{tmp_path / 'never'}"}
    async with leader(them.endpoint, **settings, **switches[roles[0]]):
        said = await them.hear(StateChanged, of="x")
        assert said.state == "ready"
