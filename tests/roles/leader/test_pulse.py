"""An instance is healthy only if its ranks computed something lately, or pass a self-test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from roles.calls import Act, Call, Meanwhile
from roles.leader import pulse
from roles.leader.attempt import Attempt
from roles.leader.door import Door
from roles.leader.pool import Death, Results
from roles.leader.pulse import Pulse
from roles.leader.scheduler import Plan
from transfer.actions import Health
from transfer.results import RankError, RankResult

SOON_S = 20.0


class Ranks:
    """Two of them, which answer as `error` says of the second; not before `free`."""

    def __init__(self) -> None:
        self.died: asyncio.Future[Death] = asyncio.get_running_loop().create_future()
        self.pids = [7, 8]
        self.tests = 0
        self.error: RankError | None = None
        self.free = asyncio.Event()
        self.free.set()
        self.condemned: asyncio.Future[tuple[int, str]] = self.died.get_loop().create_future()

    async def call(
        self,
        message: Call,
        seconds: float,
        meanwhile: Callable[[Meanwhile], None] | None = None,
    ) -> Results:
        if isinstance(message, Act):
            assert message.action == Health()
            self.tests += 1
        await self.free.wait()
        second = RankResult(1, 8, self.error is None, error=self.error)
        return Results((RankResult(0, 7, True), second))

    def condemn(self, rank: int, how: str) -> None:
        self.condemned.set_result((rank, how))


class Room:
    def __init__(self) -> None:
        self.ranks = Ranks()
        self.door = Door(lambda death: None)
        self.rests = True
        self.looks = 0
        self.pulse = Pulse(self.door, self._at_rest)

    def _at_rest(self) -> bool:
        self.looks += 1
        return self.rests

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON_S):
            while not holds():
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def room(monkeypatch: pytest.MonkeyPatch, every_s: float) -> AsyncIterator[Room]:
    monkeypatch.setattr(pulse, "SELF_TEST_S", every_s)
    made = Room()
    made.door.attach(made.ranks)
    running = asyncio.create_task(made.pulse.run())
    try:
        yield made
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_ranks_without_work_test_themselves_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with room(monkeypatch, 0.02) as made:
        await made.until(lambda: made.ranks.tests == 3)
        assert made.pulse.healthy
        assert not made.ranks.condemned.done()


async def test_ranks_that_are_busy_are_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with room(monkeypatch, 0.0) as made:
        made.rests, made.ranks.tests, before = False, 0, made.looks
        await made.until(lambda: made.looks >= before + 5)
        assert made.ranks.tests == 0
        assert made.pulse.healthy


async def test_what_they_compute_is_proof_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    async with room(monkeypatch, 600.0) as made:
        made.door.proved_at = before = 0.0
        attempts: list[Attempt] = []
        await made.door.run(Plan("step", ()), attempts)
        assert made.door.proved_at > before
        made.ranks.error = RankError("raised", "ValueError", "no", "Traceback")
        made.door.proved_at = before
        await made.door.run(Plan("step", ()), attempts)
        assert made.door.proved_at == before  # of two ranks, one did not


async def test_a_rank_that_fails_its_test_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with room(monkeypatch, 0.02) as made:
        made.ranks.error = RankError("raised", "RuntimeError", "cuda:1 computes wrongly", "T")
        rank, how = await asyncio.wait_for(asyncio.shield(made.ranks.condemned), SOON_S)
        assert rank == 1
        assert how == "did not pass its self-test: RuntimeError: cuda:1 computes wrongly"


async def test_ranks_that_do_not_answer_are_not_healthy_until_they_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulse, "OVERDUE_S", 0.05)
    async with room(monkeypatch, 0.02) as made:
        made.ranks.free.clear()
        await made.until(lambda: not made.pulse.healthy)
        made.ranks.free.set()
        await made.until(lambda: made.pulse.healthy)
        assert not made.ranks.condemned.done()
