"""A leader with two ranks that are joined, in processes of their own: every call is every rank's.

The model is scripted, and does some things in one rank only (`in_rank`); all else is real. The
tests are in order: each leaves the leader as the next one expects it.
"""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from roles.calls import Begin, Call, Drop, Load, Loaded, Outcomes, Run, Store, Stored, Warm
from roles.leader.keeper import rank_command
from roles.leader.pool import PoolResult, WorkerPool
from roles.meeting import Meeting
from roles.options import RoleOptions
from tests.support.leader_process import LeaderProcess, gone, leader
from tests.support.scripted_orchestrator import ScriptedOrchestrator, work
from transfer.messages import Failed, Finished, Inputs, Progressed, StateChanged
from transfer.pool import SlotPool

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROGRAM = "tests.support.scripted_program:load"
SOON_S = 120.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them() -> AsyncIterator[ScriptedOrchestrator]:
    async with ScriptedOrchestrator(heartbeat_s=0.5) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def us(them: ScriptedOrchestrator) -> AsyncIterator[LeaderProcess]:
    async with leader(them.endpoint, roles=["monolithic"], name="pair", ranks=2) as made:
        yield made


async def test_every_rank_reports_in_every_call(tmp_path: Path) -> None:
    options = RoleOptions(
        orchestrator="", model="fine", roles=("encoder", "denoiser"), ranks=2, threads=1
    )
    with SlotPool.create(1, 1 << 16, 1) as slots:
        meeting = Meeting()
        ranks = WorkerPool(
            [rank_command(options, rank, PROGRAM, slots.fd, meeting.fd) for rank in (0, 1)]
        )
        await ranks.start()
        meeting.close()

        async def all_say(call: Call) -> PoolResult:
            result = await ranks.call(call, SOON_S)
            assert result.ok, str(result)
            assert [(each.rank, each.pid) for each in result.results] == [
                (0, ranks.pids[0]),
                (1, ranks.pids[1]),
            ]
            return result

        key, inputs = ("r", 1), Inputs({"steps": 2}, seed=5)
        try:
            loaded = await all_say(Load("fine", ["encoder", "denoiser"], "auto"))
            assert all(isinstance(each.value, Loaded) for each in loaded.results)
            await all_say(Warm())
            await all_say(Begin(*key, "encoder", inputs, None))
            encoded = await all_say(Run("encode", ((key,),)))
            sizes = [e.value.outcomes[0].nbytes for e in encoded.results if _told(e.value)]
            assert len(sizes) == 2
            assert sizes[0] == sizes[1]
            stored = await all_say(Store(*key, slots=[0]))
            first, second = (each.value for each in stored.results)
            assert isinstance(first, Stored)
            assert first.checksum is not None
            assert second == Stored(None)  # only the first rank writes
            await all_say(Drop(*key))
        finally:
            await ranks.kill()


def _told(value: object) -> bool:
    return isinstance(value, Outcomes)


async def test_two_ranks_do_a_request_together(
    them: ScriptedOrchestrator, us: LeaderProcess
) -> None:
    assert len((await them.ready("pair")).ranks) == 2
    await them.say("pair", work("plain", "monolithic", steps=4))
    assert (await them.hear(Finished)).request == "plain"


@pytest.mark.parametrize("rank", [0, 1])
async def test_what_fails_in_one_rank_fails_for_all_and_the_next_is_fine(
    them: ScriptedOrchestrator, us: LeaderProcess, rank: int
) -> None:
    await them.say("pair", work("bad", "monolithic", raise_at="2", in_rank=rank))
    error = (await them.hear(Failed)).error
    assert error.kind == "rank_failed"
    assert error.message == "RuntimeError: scripted at 2"  # not what the other one says of it
    assert error.rank == rank
    assert "scripted_program.py" in (error.traceback or "")
    await them.say("pair", work("good", "monolithic"))
    assert (await them.hear(Finished)).request == "good"


@pytest.mark.parametrize("dies", [1, 0])
async def test_a_rank_killed_while_the_other_waits_for_it(
    them: ScriptedOrchestrator, us: LeaderProcess, tmp_path: Path, dies: int
) -> None:
    """The one that survives waits for its part of a step: it is not left there, and the request is
    told to whoever tries it elsewhere."""
    pids = us.ready["rank_pids"]
    gate = {"gate_at": "3", "gate": str(tmp_path / "never"), "in_rank": dies}
    await them.say("pair", work("halved", "monolithic", **gate))
    await them.hear(Progressed, lambda m: m.request == "halved" and m.step == 2)
    os.kill(pids[dies], signal.SIGKILL)
    changed, told = await them.hear(StateChanged), await them.hear(Failed)
    assert changed.state == "starting"
    assert (told.request, told.error.kind) == ("halved", "rank_died")
    assert f"rank {dies} (pid {pids[dies]}) of pair died of SIGKILL" in told.error.message
    for pid in pids:
        await gone(pid)
    await them.say(
        "pair", work("halved", "monolithic", attempt=2, seconds=SOON_S)
    )  # it waits for the new ranks
    again = await them.hear(StateChanged, seconds=SOON_S)
    assert again.state == "ready"
    us.ready["rank_pids"] = [rank.pid for rank in again.ranks]
    assert not set(us.ready["rank_pids"]) & set(pids)
    assert (await them.hear(Finished)).attempt == 2
