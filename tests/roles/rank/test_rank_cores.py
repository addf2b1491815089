"""A real rank tells others when it computes."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roles.calls import Begin, Load, Run
from roles.cores import Cores
from roles.leader.keeper import rank_command
from roles.leader.pool import WorkerPool
from roles.options import RoleOptions
from transfer.messages import Inputs
from transfer.pool import SlotPool

SOON_S = 60.0
PROGRAM = "tests.support.scripted_program:load"


@pytest.fixture
def file() -> Iterator[str]:
    fd = os.memfd_create("cores")
    yield f"/proc/{os.getpid()}/fd/{fd}"
    os.close(fd)


@pytest.fixture
def cores(file: str) -> Iterator[Cores]:
    """Four cores, as another rank of the machine sees them."""
    made = Cores(1, 4, file)
    yield made
    made.close()


async def becomes(cores: Cores, threads: int) -> None:
    """What another process does cannot be waited for as an event; it is looked for."""
    async with asyncio.timeout(SOON_S):
        while cores.threads(alone=False) != threads:
            await asyncio.sleep(0.01)


def options(file: str, **others: Any) -> RoleOptions:
    return RoleOptions(
        orchestrator="tcp://127.0.0.1:1",
        model="fine",
        roles=("encoder",),
        threads=1,
        cores=4,
        cores_file=file,
        **others,
    )


@pytest.mark.parametrize(
    ("others", "cores"),
    [({}, ["--cores=4"]), ({"compile": True}, ["--cores=1"]), ({"ranks": 2}, [])],
)
def test_who_may_not_change_its_threads_has_its_own(
    others: dict[str, Any], cores: list[str]
) -> None:
    argv = rank_command(options("FILE", **others), 0, PROGRAM, 5).argv
    assert [word for word in argv if word.startswith("--cores=")] == cores
    assert ("--cores-file=FILE" in argv) == bool(cores)


def calls(gate: Path) -> tuple[Begin, Run]:
    """An encoding that lasts until the gate is there."""
    params = {"gate": str(gate), "gate_at": "encode"}
    begin = Begin("r", 1, "encoder", Inputs(params, seed=1), None)
    return begin, Run("encode", ((("r", 1),),))


async def test_others_have_the_cores_of_a_rank_until_it_computes_and_after(
    file: str, cores: Cores, tmp_path: Path
) -> None:
    begin, run = calls(tmp_path / "gate")
    with SlotPool.create(1, 4096, 1) as slots:
        ranks = WorkerPool([rank_command(options(file), 0, PROGRAM, slots.fd)])
        await ranks.start()
        try:
            assert (await ranks.call(Load("fine", ["encoder"], "auto"), SOON_S)).ok
            assert cores.threads(alone=False) == 4  # it has the model, and nothing to do
            assert (await ranks.call(begin, SOON_S)).ok
            running = asyncio.create_task(ranks.call(run, SOON_S))
            await becomes(cores, 2)
            (tmp_path / "gate").touch()
            assert (await running).ok
            await becomes(cores, 4)
        finally:
            await ranks.kill()
