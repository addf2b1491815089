"""The supervisor over processes that compute nothing; the real ones are in tests/e2e."""

import asyncio
import dataclasses
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from launch.addresses import Address
from launch.child import Recipe
from launch.errors import LaunchError
from launch.local import LocalCluster
from launch.plan import Machine, Wish, plan
from launch.supervisor import Supervisor
from tests.support import fake_role
from tests.support.canned_server import Canned

VIEW = {"roles": {"encoder": [{"name": "encoder-0", "ranks": [{"rank": 0, "pid": 77}]}]}}


def cluster(canned: Canned, **behaviours: str) -> LocalCluster:
    """One of each role; `behaviours` by role, "serves" for the others."""

    def recipe(role: str, name: str) -> Recipe:
        behaviour = behaviours.get(role, "serves")
        return Recipe(role, name, (sys.executable, fake_role.__file__, behaviour))

    chosen = plan(Machine(2), Wish(1, 1, 1))
    return LocalCluster(
        http=Address.parse(canned.url.removeprefix("http://")),
        control=Address("127.0.0.1", 1),
        plan=chosen,
        orchestrator=recipe("orchestrator", "orchestrator"),
        instances=tuple(recipe(member.role, member.name) for member in chosen.members),
    )


def answers(canned: Canned) -> None:
    canned.answer("GET /ready", 200, {})
    canned.answer("GET /v1/cluster", 200, VIEW)


@asynccontextmanager
async def running(local: LocalCluster) -> AsyncIterator[tuple[Supervisor, asyncio.Task[int]]]:
    async with asyncio.timeout(30):
        supervisor = Supervisor(local)
        task = asyncio.create_task(supervisor.run(start_timeout_s=20))
        try:
            yield supervisor, task
        finally:
            supervisor.abandon()
            await asyncio.gather(task, return_exceptions=True)


async def ready_line(capfd: pytest.CaptureFixture[str]) -> dict[str, object]:
    output = ""
    while "\n" not in output:
        await asyncio.sleep(0.02)
        output += capfd.readouterr().out
    line: dict[str, object] = json.loads(output)
    return line


async def test_it_tells_its_processes_and_drains_them(
    canned: Canned, capfd: pytest.CaptureFixture[str]
) -> None:
    answers(canned)
    async with running(cluster(canned)) as (supervisor, task):
        line = await ready_line(capfd)
        assert line["http"] == canned.url
        assert line["control"] == "tcp://127.0.0.1:1"
        processes = line["processes"]
        assert isinstance(processes, list)
        names = [process["name"] for process in processes]
        assert names == ["orchestrator", "encoder-0", "denoiser-0", "decoder-0"]
        assert [process["rank_pids"] for process in processes] == [[], [77], [], []]
        pids = [process["pid"] for process in processes]
        assert all(psutil.pid_exists(pid) for pid in pids)
        supervisor.stop()
        assert await task == 0
        assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_it_waits_until_the_front_door_is_ready(
    canned: Canned, capfd: pytest.CaptureFixture[str]
) -> None:
    canned.answer("GET /ready", 503, {})
    async with running(cluster(canned)):
        while ("GET", "/ready", None) not in canned.asked:
            await asyncio.sleep(0.01)
        assert capfd.readouterr().out == ""
        answers(canned)
        await ready_line(capfd)


async def test_it_looks_at_a_locked_cluster_with_a_key_of_its_own(
    canned: Canned, capfd: pytest.CaptureFixture[str]
) -> None:
    answers(canned)
    async with running(dataclasses.replace(cluster(canned), key="tk-own")):
        await ready_line(capfd)
    assert set(canned.keys) == {"Bearer tk-own"}


async def test_a_role_that_does_not_come_up_ends_it_all(canned: Canned) -> None:
    answers(canned)
    async with running(cluster(canned, denoiser="fails")) as (_, task):
        with pytest.raises(LaunchError, match=r"^denoiser-0 did not come up .*a teapot$"):
            await task


async def test_a_role_that_takes_too_long_is_named(canned: Canned) -> None:
    answers(canned)
    supervisor = Supervisor(cluster(canned, decoder="silent"))
    async with asyncio.timeout(30):
        with pytest.raises(
            LaunchError, match=r"decoder-0 did not come up within 2 s: it wrote nothing"
        ):
            await supervisor.run(start_timeout_s=2)


async def test_the_second_signal_waits_for_nobody(
    canned: Canned, capfd: pytest.CaptureFixture[str]
) -> None:
    answers(canned)
    async with running(cluster(canned, encoder="stubborn")) as (supervisor, task):
        await ready_line(capfd)
        supervisor.stop()
        done, _ = await asyncio.wait({task}, timeout=0.3)
        assert not done
        supervisor.stop()
        assert await task == 1
