"""Who gives way, and for how long."""

import asyncio
from types import SimpleNamespace

import pytest

from orchestrator.http.streaming import turns
from orchestrator.http.streaming.turns import TURNS, give_way


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=0.0, perf_counter=lambda: made.now)
    monkeypatch.setattr(turns, "time", made)
    return made


class Busy:
    """Has something to do in so many turns of the loop, a millisecond each."""

    def __init__(self, clock: SimpleNamespace, turns: int) -> None:
        self.clock, self.left, self.done = clock, turns, 0
        asyncio.get_running_loop().call_soon(self.turn)

    def turn(self) -> None:
        if self.left:
            self.left -= 1
            self.done += 1
            self.clock.now += 0.001
            asyncio.get_running_loop().call_soon(self.turn)


async def test_t11_others_have_all_the_turns_that_they_need(clock: SimpleNamespace) -> None:
    other = Busy(clock, TURNS - 1)
    await give_way()
    assert other.left == 0


async def test_t11_those_who_never_end_do_not_stop_a_reply(clock: SimpleNamespace) -> None:
    other = Busy(clock, 10 * TURNS)
    await give_way()
    assert other.done == TURNS


async def test_t11_where_nobody_waits_it_goes_on_at_once(clock: SimpleNamespace) -> None:
    turned = []
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: loop.call_soon(turned.append, "a second turn"))
    await give_way()
    assert turned == []
    await asyncio.sleep(0)
