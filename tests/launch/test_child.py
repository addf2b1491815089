import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from launch.child import Child, Recipe, how_it_ended
from tests.support import fake_role
from tests.support.lines import Lines


def recipe(*words: str) -> Recipe:
    return Recipe("decoder", "decoder-0", (sys.executable, fake_role.__file__, *words))


@asynccontextmanager
async def started(behaviour: str) -> AsyncIterator[tuple[Child, Lines]]:
    log = Lines()
    async with asyncio.timeout(30):
        child = Child(recipe(behaviour), log)
        try:
            yield child, log
        finally:
            child.kill()
            await child.exited


async def test_a_child_comes_up_and_ends_when_asked() -> None:
    async with started("serves") as (child, _):
        assert (await child.ready)["pid"] == child.pid
        child.send(signal.SIGTERM)
        assert await child.exited == 0
    child.send(signal.SIGTERM)  # to nobody: no error


async def test_a_child_that_ends_before_it_is_ready_never_is() -> None:
    async with started("fails") as (child, _):
        assert await child.exited == 1
        assert child.ready.cancelled()
        assert child.last_words() == "the model is a teapot"


async def test_last_words_without_a_clear_error_are_the_end_of_the_log() -> None:
    async with started("crashes") as (child, _):
        assert await child.exited == 1
        assert child.last_words().startswith("it wrote last:\n  Traceback")
        assert child.last_words().endswith("RuntimeError: no idea why")


async def test_a_killed_child_is_told_by_its_signal() -> None:
    async with started("stubborn") as (child, _):
        await child.ready
        child.send(signal.SIGTERM)
        child.kill()
        assert how_it_ended(await child.exited) == "SIGKILL"


async def test_every_line_reaches_the_log_even_endless_ones() -> None:
    async with started("chatty") as (child, log):
        await child.ready
        child.send(signal.SIGTERM)
        await child.exited
        assert "".join(log).count("x") == 200_000
        assert log[-1] == "decoder-0: hello"


async def test_whoever_the_child_started_ends_with_it() -> None:
    async with started("family") as (child, log):
        await child.ready
        line = await log.first("child")
        grandchild = psutil.Process(int(line.split()[-1]))
        child.send(signal.SIGKILL)
        await child.exited
        grandchild.wait(10)


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exit code 0"), (-9, "SIGKILL"), (-99, "signal 99")]
)
def test_how_a_process_ended(code: int, text: str) -> None:
    assert how_it_ended(code) == text
