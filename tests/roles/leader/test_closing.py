"""V5: how an instance comes to its end, on real processes: what it had to do, and who is told.

The ranks have no model and no torch (tests/support/plain_rank.py).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from tests.support.leader_process import LeaderProcess, leader
from tests.support.orchestrator_process import orchestrator
from tests.support.scripted_orchestrator import ScriptedOrchestrator
from tests.support.troupe import eventually, new_client
from transfer.actions import Health, ListLoras
from transfer.codec import MAGIC, PROTOCOL, parting
from transfer.messages import Answered, Ask, Close, Ended, Left, StateChanged


def started(
    control: str, folder: Path, ranks: int, ready: bool = True
) -> AbstractAsyncContextManager[LeaderProcess]:
    """A leader called "a"."""
    return leader(
        control,
        ranks_are="tests.support.plain_rank",
        model=str(folder),
        roles=("monolithic",),
        name="a",
        ranks=ranks,
        ready=ready,
    )


def is_there(path: Path) -> Callable[[], Awaitable[bool]]:
    async def found() -> bool:
        return path.exists()

    return found


async def test_v5_it_says_what_it_had_to_do_and_whoever_waits_is_told_at_once(
    tmp_path: Path,
) -> None:
    """Rank 1 is amid something long, rank 2 ignores whatever it is asked."""
    (tmp_path / "list_loras.2").write_text("stubborn")
    async with (
        ScriptedOrchestrator(heartbeat_s=0.5) as them,
        started(them.endpoint, tmp_path, ranks=3) as us,
    ):
        await them.ready("a")
        await them.say("a", Ask(0, 1, ListLoras(), 60.0))
        assert (await them.hear(Answered)).result.ok
        (tmp_path / "health.1").write_text("hang")
        await them.say("a", Ask(0, 2, Health(), 600.0))
        await eventually(is_there(tmp_path / "health.hangs"))
        await them.say("a", Close("removed"))
        closing = await them.hear(StateChanged, lambda m: m.state == "closing")
        assert closing.cause == "removed"
        told = await them.hear(Answered)
        assert (told.number, told.result.ok) == (2, False)
        errors = [rank.error for rank in told.result.results]
        assert {(e.kind, e.type) for e in errors if e} == {("closed", "InstanceClosing")}
        assert (await them.hear(Left)).reason == "removed"  # while rank 2 is still there
        ended = await them.hear(Ended)
        pids = us.ready["rank_pids"]
        assert [(rank.pid, rank.by) for rank in ended.ranks[1:]] == [
            (pids[1], "SIGTERM"),
            (pids[2], "SIGKILL"),
        ]
        assert ended.state == "closed"
        for text in (f"1 (pid {pids[1]}) had to be terminated", f"2 (pid {pids[2]}) had to be"):
            assert text in ended.cause
        assert await us.ended() == 4
        assert not [message for _, message in them.heard if isinstance(message, Answered)]
    lines = us.stderr.splitlines()
    assert any("a is closing: removed (it was ready)" in line for line in lines)
    assert any(f"a is closed: {ended.cause} (it was closing)" in line for line in lines)


async def test_v5_one_that_cannot_go_on_has_failed_and_says_so(tmp_path: Path) -> None:
    async with (
        ScriptedOrchestrator(heartbeat_s=0.5) as them,
        started(them.endpoint, tmp_path, ranks=1) as us,
    ):
        await them.ready("a")
        await them.say_bytes("a", parting(bytes([MAGIC, PROTOCOL + 1])))
        ended = await them.hear(Ended)
        assert (ended.state, ended.cause) == (
            "failed",
            "it could not go on; every rank has ended",
        )
        assert [rank.by for rank in ended.ranks] == ["request"]
        assert await us.ended() == 1
    assert us.stderr.splitlines()[-1].startswith("triptych: monolithic: ")
    assert "Traceback" not in us.stderr


async def test_ranks_that_fail_their_self_test_do_not_come_up(tmp_path: Path) -> None:
    (tmp_path / "health.1").write_text("raise")
    async with (
        ScriptedOrchestrator(heartbeat_s=0.5) as them,
        started(them.endpoint, tmp_path, ranks=2, ready=False) as us,
    ):
        assert await us.ended() == 1
        assert not them.registered
    last = us.stderr.splitlines()[-1]
    assert last.startswith("triptych: monolithic: the ranks do not pass their self-test: rank 1 ")
    assert last.endswith("raised ValueError: as health.1 says")


async def test_v5_whoever_asks_over_http_is_told_so_and_the_cluster_knows_what_it_took(
    tmp_path: Path,
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    async with (
        orchestrator(tmp_path / "state") as process,
        new_client(process.http) as client,
        started(process.control, faults, ranks=1) as us,
    ):
        (faults / "health.0").write_text("hang")
        body = {"target": "a", "method": "health", "timeout_s": 600}
        calling = asyncio.create_task(client.post("/v1/cluster/rpc", json=body))
        await eventually(is_there(faults / "health.hangs"))
        reply = await client.post("/v1/cluster/instances/a/drain")
        assert reply.is_success
        told = (await calling).json()["instances"]["a"]["ranks"]["0"]
        assert (told["ok"], told["error"]["type"]) == (False, "InstanceClosing")

        async def states() -> list[dict[str, Any]]:
            history = (await client.get("/v1/cluster")).json()["history"]
            return history if history[-1]["state"] == "closed" else []

        seen = await eventually(states)
        assert await us.ended() == 0
    assert [each["state"] for each in seen] == ["ready", "draining", "closing", "closed"]
    assert {(each["name"], each["epoch"]) for each in seen} == {("a", 1)}
    (pid,) = us.ready["rank_pids"]
    assert seen[-1]["cause"].startswith(f"rank 0 (pid {pid}) had to be terminated (")
