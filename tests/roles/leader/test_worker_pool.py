"""The worker pool on real processes: every rank answers, or is named."""

import asyncio
import os
import select
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from roles.calls import Drop, Meanwhile, Stored
from roles.leader.pool import WorkerPool
from roles.leader.process import RankCommand, cause_of_death
from transfer.results import ECHO, PoolResult, RankError, RankResult

ROOT = Path(__file__).parents[2]
SOON_S = 20.0


def commands(count: int) -> list[RankCommand]:
    argv = [sys.executable, "-m", "tests.support.scripted_rank"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return [RankCommand([*argv, f"--rank={rank}"], environment) for rank in range(count)]


@asynccontextmanager
async def pool(count: int) -> AsyncIterator[WorkerPool]:
    made = WorkerPool(commands(count))
    await made.start()
    try:
        assert (await made.call(Drop("fine", 1), SOON_S)).ok  # they are up
        yield made
    finally:
        await made.kill()
        assert not any(alive(pid) for pid in made.pids)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kinds(result: PoolResult) -> list[str]:
    return [each.error.kind if each.error else "ok" for each in result.results]


def types(result: PoolResult) -> list[str]:
    return [each.error.type if each.error else "ok" for each in result.results]


async def test_every_rank_answers() -> None:
    async with pool(3) as ranks:
        result = await ranks.call(Drop("fine", 42), SOON_S)
        assert result.ok
        assert [each.value for each in result.results] == [Stored(42)] * 3
        assert [each.rank for each in result.results] == [0, 1, 2]
        assert [each.pid for each in result.results] == ranks.pids


async def test_f22_one_rank_that_raises_fails_the_call_and_is_named() -> None:
    async with pool(3) as ranks:
        result = await ranks.call(Drop("raise:1", 1), SOON_S)
        assert not result.ok
        assert not result.lost
        assert kinds(result) == ["ok", "raised", "ok"]
        assert str(result) == f"rank 1 (pid {ranks.pids[1]}) raised ValueError: scripted"
        assert result.failures[0].error is not None
        assert result.failures[0].error.traceback == "Traceback: scripted"
        assert (await ranks.call(Drop("fine", 2), SOON_S)).ok  # and the ranks go on


async def test_an_answer_counts_that_comes_in_one_turn_with_the_deadline() -> None:
    """As for a leader that was stopped for longer than the deadline, and woken."""
    loop, surprises = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: surprises.append(context))
    async with pool(1) as ranks:
        calling = asyncio.create_task(ranks.call(Drop("fine", 42), 0.05))
        until = time.monotonic() + 0.1
        await asyncio.sleep(0)  # it is asked
        transport = ranks._ranks[0]._transport
        assert transport is not None
        assert select.select([transport.get_extra_info("socket").fileno()], [], [], SOON_S)[0]
        while time.monotonic() < until:
            time.sleep(0.01)
        assert (await calling).ok
    assert not surprises


async def test_what_a_rank_says_before_its_answer_goes_to_whoever_called() -> None:
    async with pool(2) as ranks:
        said: list[Meanwhile] = []
        result = await ranks.call(Drop("tells:0", 1), SOON_S, said.append)
        assert [each.warmed for each in said] == [(1, 2), (2, 2)]
        assert result.ok
        assert (await ranks.call(Drop("tells:0", 1), SOON_S)).ok  # nobody listens
        assert len(said) == 2


@pytest.mark.parametrize(
    ("what", "how"), [("exit", "exited with code 5"), ("kill", "died of SIGKILL")]
)
async def test_f22_a_rank_that_ends_is_told_at_once(what: str, how: str) -> None:
    async with pool(3) as ranks:
        began = time.monotonic()
        result = await ranks.call(Drop(f"{what}:2", 1), 600)
        assert time.monotonic() - began < SOON_S
        assert result.lost
        assert result.failures[0].rank == 2
        assert str(result).startswith(f"rank 2 (pid {ranks.pids[2]}) {how}")
        assert str(ranks.died.result()) == f"rank 2 (pid {ranks.pids[2]}) {how}"
        assert ranks.state == "failed"
        assert kinds(await ranks.call(Drop("fine", 1), 600)) == ["closed", "closed", "died"]


async def test_v9_an_idle_rank_s_death_is_seen() -> None:
    async with pool(2) as ranks:
        os.kill(ranks.pids[1], signal.SIGSEGV)
        death = await asyncio.wait_for(ranks.died, SOON_S)
        assert (death.rank, death.how) == (1, "died of SIGSEGV")


async def test_every_pending_call_is_answered_when_a_rank_dies() -> None:
    async with pool(2) as ranks:
        calls = [ranks.call(Drop(what, 1), 600) for what in ("hang:0", "hang:0", "kill:1")]
        results = await asyncio.wait_for(asyncio.gather(*calls), SOON_S)
        assert all(f"rank 1 (pid {ranks.pids[1]}) died of SIGKILL" in str(r) for r in results)


async def test_v3_a_silent_rank_is_named_at_the_deadline() -> None:
    async with pool(3) as ranks:
        result = await ranks.call(Drop("hang:1", 1), 0.5)
        assert kinds(result) == ["ok", "silent", "ok"]
        assert result.lost
        assert str(result) == f"rank 1 (pid {ranks.pids[1]}) did not answer for 0.5 s"


async def test_a_stopped_rank_is_named_at_the_deadline() -> None:
    async with pool(2) as ranks:
        os.kill(ranks.pids[0], signal.SIGSTOP)
        assert kinds(await ranks.call(Drop("fine", 1), 0.3)) == ["silent", "ok"]


async def test_v4_a_late_answer_is_never_taken_for_the_next_call_s() -> None:
    async with pool(2) as ranks:
        assert kinds(await ranks.call(Drop("late:0", 111), 0.3)) == ["silent", "ok"]
        result = await ranks.call(Drop("fine", 222), SOON_S)
        assert [each.value for each in result.results] == [Stored(222), Stored(222)]
        assert ranks.late == 1


async def test_calls_at_the_same_time_keep_their_answers() -> None:
    async with pool(2) as ranks:
        calls = [ranks.call(Drop("fine", number), SOON_S) for number in range(200)]
        for number, result in enumerate(await asyncio.gather(*calls)):
            assert result.first.value == Stored(number)


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    async with pool(1) as ranks:
        call = asyncio.ensure_future(ranks.call(Drop("hang:0", 1), 600))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await ranks.call(Drop("fine", 3), SOON_S)).first.value == Stored(3)
        assert not ranks._pending


async def test_garbage_from_a_rank_ends_it() -> None:
    async with pool(2) as ranks:
        result = await ranks.call(Drop("garbage:0", 1), 600)
        assert result.failures[0].rank == 0
        assert (await asyncio.wait_for(ranks.died, SOON_S)).rank == 0


async def test_a_call_that_is_too_large_is_a_result_too() -> None:
    async with pool(1) as ranks:
        result = await ranks.call(Drop("x" * (5 << 20), 1), SOON_S)
        assert kinds(result) == ["raised"]
        assert (await ranks.call(Drop("fine", 1), SOON_S)).ok


async def test_condemned_ranks_end_with_the_reason() -> None:
    async with pool(2) as ranks:
        ranks.condemn(1, "did not answer for 3 s")
        assert str(await ranks.died) == f"rank 1 (pid {ranks.pids[1]}) did not answer for 3 s"


async def test_v5_closing_is_polite() -> None:
    async with pool(2) as ranks:
        pids = ranks.pids
        end = await ranks.close(polite_s=SOON_S)
        assert ranks.state == end.state == "closed"
        assert [(x.pid, x.by, x.how) for x in end.ranks] == [
            (pid, "request", "exited with code 0") for pid in pids
        ]
        assert (end.asked, end.forced, str(end)) == (True, [], "every rank has ended")
        assert not any(map(alive, pids))
        assert not ranks.died.done()  # nobody died, they were asked
        assert types(await ranks.call(Drop("fine", 1), 1)) == ["PoolClosed", "PoolClosed"]


@pytest.mark.parametrize(
    ("what", "by", "took"),
    [("deaf", "SIGTERM", "had to be terminated"), ("stubborn", "SIGKILL", "had to be killed")],
)
async def test_v5_closing_says_what_it_took(what: str, by: str, took: str) -> None:
    """A rank that does not end because it was asked to."""
    async with pool(1) as ranks:
        assert (await ranks.call(Drop(f"{what}:0", 1), SOON_S)).ok
        end = await ranks.close(polite_s=0.2, term_s=SOON_S if what == "deaf" else 0.2)
        assert [(x.rank, x.by, x.how) for x in end.forced] == [(0, by, f"died of {by}")]
        assert str(end) == f"rank 0 (pid {ranks.pids[0]}) {took}"
        assert end.killed == (what == "stubborn")
        assert (await ranks.close()).ranks == end.ranks  # once more is fine, and tells the same


async def test_v5_closing_always_ends_and_fails_what_is_pending_at_once() -> None:
    async with pool(3) as ranks:
        assert (await ranks.call(Drop("stubborn:0", 1), SOON_S)).ok
        os.kill(ranks.pids[1], signal.SIGSTOP)
        pending = asyncio.ensure_future(ranks.call(Drop("hang:0", 1), 600))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(ranks.close(polite_s=0.2, term_s=0.2))
        told = await asyncio.wait_for(pending, SOON_S)
        assert not closing.done()
        assert ranks.state == "closing"
        assert set(types(told)) == {"PoolClosing"}
        assert set(kinds(told)) == {"closed"}
        assert set(types(await ranks.call(Drop("fine", 1), 600))) == {"PoolClosing"}
        end = await closing
        assert [x.by for x in end.ranks[:2]] == ["SIGKILL", "SIGKILL"]
        assert not any(map(alive, ranks.pids))


async def test_v5_a_process_that_even_sigkill_does_not_end_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one that is stuck in the kernel, amid a call to its device."""
    async with pool(2) as ranks:
        pids = ranks.pids
        with monkeypatch.context() as patch:
            patch.setattr("roles.leader.pool.KILL_S", 0.2)
            patch.setattr(ranks._ranks[1], "signal", lambda number: None)
            patch.setattr(ranks._ranks[1], "send", lambda frame: None)
            end = await ranks.close(polite_s=0.1, term_s=0.1)
        assert ranks.state == end.state == "failed"
        assert end.ranks[1].by == "nothing"
        assert f"rank 1 (pid {pids[1]}) does not end, though it was killed" in str(end)
        assert alive(pids[1])
        assert types(await ranks.call(Drop("fine", 1), 600))[1] == "PoolFailed"


async def test_v5_those_that_had_died_are_told_apart_from_those_that_were_killed() -> None:
    async with pool(2) as ranks:
        os.kill(ranks.pids[1], signal.SIGSEGV)
        await asyncio.wait_for(ranks.died, SOON_S)
        assert types(await ranks.call(Drop("fine", 1), 600)) == ["PoolFailed", "RankDied"]
        end = await ranks.close()
        assert [(x.by, x.how) for x in end.ranks] == [
            ("SIGKILL", "died of SIGKILL"),
            ("itself", "died of SIGSEGV"),
        ]
        assert (end.state, end.asked, end.forced) == ("closed", False, [])


async def test_v5_before_it_is_open_nothing_is_asked() -> None:
    ranks = WorkerPool(commands(1))
    assert types(await ranks.call(Drop("fine", 1), 600)) == ["PoolStarting"]


async def test_ranks_that_cannot_start_leave_nothing_behind() -> None:
    good = commands(1)[0]
    ranks = WorkerPool([good, RankCommand(["/nonexistent"]), good])
    with pytest.raises(OSError, match="nonexistent"):
        await ranks.start()
    assert ranks.state == "closed"
    assert not alive(ranks.pids[0])


def test_the_rank_that_is_the_reason_comes_before_those_that_repeat_it() -> None:
    errors = [
        RankError("closed", "PoolClosed", "was given up"),
        RankError("raised", ECHO, "rank 2: ValueError: no"),
        RankError("raised", "ValueError", "no", "Traceback: scripted"),
        None,
    ]
    result = PoolResult(
        tuple(RankResult(rank, 7, error is None, error=error) for rank, error in enumerate(errors))
    )
    assert [each.rank for each in result.failures] == [2, 1, 0]


@pytest.mark.parametrize(
    ("code", "cause"),
    [(0, "exited with code 0"), (3, "exited with code 3"), (-9, "died of SIGKILL")],
)
def test_causes_of_death(code: int, cause: str) -> None:
    assert cause_of_death(code) == cause


def test_a_signal_without_a_name() -> None:
    assert cause_of_death(-40) == "died of signal 40"
