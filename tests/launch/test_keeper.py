import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import launch.keeper
from launch.child import Recipe
from launch.errors import LaunchError
from launch.keeper import Keeper
from tests.support import fake_role
from tests.support.lines import Lines


@asynccontextmanager
async def kept(*words: str, role: str = "decoder") -> AsyncIterator[tuple[Keeper, Lines]]:
    """A keeper whose `keep` runs as a task until the block ends; and what it logged."""
    log = Lines()
    recipe = Recipe(role, f"{role}-0", (sys.executable, fake_role.__file__, *words))
    async with asyncio.timeout(30):
        keeper = Keeper(recipe, log)
        try:
            yield keeper, log
        finally:
            keeper.kill()


async def test_a_process_that_died_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch.keeper, "FIRST_PAUSE_S", 0.01)
    fuse = tmp_path / "fuse"
    fuse.touch()
    async with kept("dies", str(fuse)) as (keeper, log):
        keeping = asyncio.create_task(keeper.keep())
        await keeper.came_up.wait()
        first = keeper.pid
        await log.first("is back")
        assert keeper.pid != first
        assert log == [
            "up: decoder-0 died (exit code 3); started again in 0.01 s",
            f"up: decoder-0 is back (pid {keeper.pid})",
        ]
        keeper.terminate()
        await keeping


async def test_one_that_never_came_up_is_not_tried_again() -> None:
    async with kept("fails") as (keeper, _):
        message = r"^decoder-0 did not come up \(exit code 1\): the model is a teapot$"
        with pytest.raises(LaunchError, match=message):
            await keeper.keep()


async def test_an_instance_that_was_told_to_leave_stays_away() -> None:
    async with kept("leaves") as (keeper, log):
        await keeper.keep()
        assert log == ["up: decoder-0 has left, as it was told to; it is not started again"]


async def test_one_that_had_to_kill_its_ranks_has_left_all_the_same() -> None:
    async with kept("forces") as (keeper, log):
        await keeper.keep()
        assert log == [
            "up: decoder-0 has left, as it was told to, though ranks had to be killed for it; "
            "it is not started again"
        ]


async def test_an_orchestrator_never_leaves() -> None:
    async with kept("leaves", role="orchestrator") as (keeper, log):
        keeping = asyncio.create_task(keeper.keep())
        await log.first("died (exit code 0); started again in 0.5 s")
        keeper.terminate()  # in the pause: it shall not last
        await keeping


async def test_what_is_terminated_before_it_began_never_begins() -> None:
    async with kept("serves") as (keeper, _):
        keeper.terminate()
        await keeper.keep()
        assert keeper.pid is None
