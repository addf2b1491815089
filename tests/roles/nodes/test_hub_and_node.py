"""A leader's hub and a node in one process, with ranks of their own that import no torch."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from launch.addresses import free_port
from roles.calls import Act, Load
from roles.leader import keeper
from roles.leader.keeper import rank_command
from roles.leader.pool import WorkerPool
from roles.nodes.hub import Hub
from roles.nodes.node import Node, Refused
from roles.options import RoleOptions
from transfer.actions import Health
from transfer.keys import KeyPair, cluster_keys, make
from transfer.pool import SlotPool

SOON_S = 60.0


@pytest.fixture(autouse=True)
def plain_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RANK", "tests.support.plain_rank")


@pytest.fixture
def options(tmp_path: Path) -> RoleOptions:
    return RoleOptions(
        orchestrator="",
        model=str(tmp_path),
        roles=("monolithic",),
        ranks=2,
        nnodes=2,
        threads=1,
        rendezvous=f"127.0.0.1:{free_port('127.0.0.1')}",
    )


@asynccontextmanager
async def hub(options: RoleOptions) -> AsyncIterator[tuple[Hub, list[str]]]:
    """A running hub, and what nodes that were asked to stop said."""
    made, stopping = Hub(options, cluster_keys()), []
    made.bind()
    task = asyncio.create_task(made.run(stopping.append))
    try:
        yield made, stopping
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.close(0, "the test is over")


@asynccontextmanager
async def node(
    options: RoleOptions, keys: KeyPair | None = None
) -> AsyncIterator[tuple[Node, "asyncio.Task[int]"]]:
    made = Node(replace(options, node_rank=1), "", keys or cluster_keys())
    task = asyncio.create_task(made.run())
    try:
        yield made, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def started(made: Hub, options: RoleOptions, slots: SlotPool) -> WorkerPool:
    life = made.begin_life()
    keys = cluster_keys()
    commands = [rank_command(options, rank, "", slots.fd, life=life, keys=keys) for rank in (0, 1)]
    pool = WorkerPool(commands, made.rank)
    await made.gathered(SOON_S)
    await pool.start()
    loaded = await pool.call(Load(options.model, ["monolithic"], "auto"), SOON_S)
    assert loaded.ok, str(loaded)
    return pool


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(SOON_S):
        while alive(pid):
            await asyncio.sleep(0.005)


async def test_ranks_of_two_hosts_are_one_pool(options: RoleOptions) -> None:
    async with node(options) as (there, ended):
        with SlotPool.create(1, 4096, 1) as slots:
            await _one_pool(options, slots, there)
        # the node ends with its instance, and with its exit code
        assert await asyncio.wait_for(ended, SOON_S) == 0


async def _one_pool(options: RoleOptions, slots: SlotPool, there: Node) -> None:
    async with hub(options) as (made, stopping):
        pool = await started(made, options, slots)
        result = await pool.call(Act(Health()), SOON_S)
        assert result.ok
        assert [each.rank for each in result.results] == [0, 1]
        assert [each.pid for each in result.results] == pool.pids
        assert all(each.host for each in result.results)
        assert [made.device(rank) for rank in (0, 1)] == ["cpu", "cpu"]

        # a rank that dies there fails the pool here, at once, with its rank and cause
        Path(options.model, "health.1").write_text("kill")
        result = await pool.call(Act(Health()), SOON_S)
        assert [each.error and each.error.message for each in result.results][1] == (
            "died of SIGKILL"
        )
        assert (await pool.died).rank == 1
        await pool.close()

        # the next life has new ranks; and a node that is asked to stop says so
        pool = await started(made, options, slots)
        assert (await pool.call(Act(Health()), SOON_S)).ok
        there._on_signal()
        async with asyncio.timeout(SOON_S):
            while not stopping:
                await asyncio.sleep(0.005)
        assert "node 1" in stopping[0]
        pids = pool.pids
        await pool.close()
        assert pool.dead == [True, True]
        assert not any(alive(pid) for pid in pids)


async def test_ranks_end_with_their_node_and_with_their_leader(options: RoleOptions) -> None:
    with SlotPool.create(1, 4096, 1) as slots:
        async with hub(options) as (made, _):
            async with node(options) as (_, ended):
                pool = await started(made, options, slots)
                ended.cancel()
                death = await asyncio.wait_for(asyncio.shield(pool.died), SOON_S)
                assert death.rank == 1
                await until_gone(pool.pids[1])
                await pool.close()
            async with node(options):  # another process takes its place
                pool = await started(made, options, slots)
                assert (await pool.call(Act(Health()), SOON_S)).ok
                first = pool.pids
                made._lose(made._members[0], "is given up by the test")
                assert (await asyncio.wait_for(asyncio.shield(pool.died), SOON_S)).rank == 1
                await pool.close()
                await until_gone(first[1])  # it is told so, ends its ranks, and joins again
                pool = await started(made, options, slots)
                assert (await pool.call(Act(Health()), SOON_S)).ok
                assert not set(first) & set(pool.pids)
                await pool.close()


async def test_a_node_that_cannot_belong_to_it_is_refused(
    options: RoleOptions, tmp_path: Path
) -> None:
    async with hub(options) as _, node(replace(options, nnodes=3)) as (_, ended):
        with pytest.raises(Refused, match="--nnodes 3, the leader with 2"):
            await asyncio.wait_for(ended, SOON_S)


async def test_a_node_with_another_key_is_told_so(
    options: RoleOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roles.nodes.node.GIVE_UP_S", 0.5)
    monkeypatch.setattr("roles.nodes.node.REPEAT_S", 0.1)
    keys = make(tmp_path / "others")
    async with hub(options) as _, node(options, keys) as (_, ended):
        with pytest.raises(Refused, match=r"hangs up on the key in .*others"):
            await asyncio.wait_for(ended, SOON_S)
