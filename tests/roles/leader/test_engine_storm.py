"""Random work, aborts, pushes, broken writes, deaths and epochs, then silence: each attempt has
ended exactly once, and everything has come home. A seed that fails, fails again."""

import asyncio
import random
from collections import Counter

import pytest

from roles.calls import Key
from tests.support.engine_room import EngineRoom, FakeRanks, failure
from tests.support.scripted_orchestrator import work
from transfer.messages import (
    Abort,
    Aborted,
    Delivered,
    ErrorInfo,
    Failed,
    Finished,
    Grant,
    Push,
    PushFailed,
    Role,
    Staged,
)

ROLES: tuple[Role, ...] = ("encoder", "denoiser", "decoder", "monolithic")
ENDS = (Delivered, Finished, Failed, Aborted)


class SlowRanks(FakeRanks):
    """Takes a random number of the loop's turns for each call, one call after the other."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__(ranks=2)
        self.dice = dice
        self.batch_key = dice.choice([None, "shared"])
        self.branches = dice.choice([1, 1, 2, 3])
        self.turn = asyncio.Lock()

    async def call(self, message, seconds, meanwhile=None):  # type: ignore[no-untyped-def]
        async with self.turn:
            for _ in range(self.dice.randrange(4)):
                await asyncio.sleep(0)
            return await super().call(message, seconds, meanwhile)


class Storm:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.room = EngineRoom(capacity=dict.fromkeys(ROLES, 100))
        self.room.ranks = SlowRanks(self.dice)
        self.epoch = 5
        self.accepted: dict[Key, int] = {}  # the epoch of each attempt
        self.forgotten: set[Key] = set()
        self.pushed: dict[Key, Grant] = {}  # and not yet failed

    async def blow(self, actions: int) -> None:
        deeds = [self.accept] * 6 + [self.abort] * 2 + [self.push] * 4
        deeds += [self.break_write, self.raise_in_rank]
        for number in range(actions):
            self.dice.choice(deeds)(number)
            for _ in range(self.dice.randrange(6)):
                await asyncio.sleep(0)
            if number % 50 == 49:
                await self.next_epoch() if self.dice.random() < 0.5 else self.kill()
        await self.calm_down()

    def accept(self, number: int) -> None:
        role, name = self.dice.choice(ROLES), f"r{number}"
        if role in ("denoiser", "decoder"):
            job = self.room.work(name, role)
        else:
            sends = role == "encoder" and self.dice.random() < 0.5
            job = work(name, role, grant=self.room.grant(name) if sends else None)
        self.accepted[name, 1] = self.epoch
        self.room.engine.accept(job, self.epoch)

    def abort(self, number: int) -> None:
        name, attempt = self.dice.choice([*self.accepted, ("never", 1)])
        self.room.engine.abort(Abort(self.epoch, name, attempt, ""), self.epoch)

    def push(self, number: int) -> None:
        for key in self.staged()[:2]:
            grant = self.pushed[key] = self.room.grant(key[0])
            self.room.engine.push(Push(self.epoch, *key, "encoder", key[1], grant), self.epoch)

    def staged(self) -> list[Key]:
        """What waits for a push, as the orchestrator sees it."""
        waiting: dict[Key, None] = {}
        for message in self.room.said:
            if isinstance(message, Staged | PushFailed):
                waiting[message.request, message.attempt] = None
                self.failed_push(message)
            elif isinstance(message, ENDS):
                waiting.pop((message.request, message.attempt), None)
        gone = self.forgotten | self.pushed.keys()
        return [key for key in waiting if key not in gone]

    def failed_push(self, message: Staged | PushFailed) -> None:
        """What was pushed and failed may be pushed again."""
        pushed = self.pushed.get((message.request, message.attempt))
        failed = message.generation if isinstance(message, PushFailed) else None
        if pushed is not None and pushed.generation == failed:
            del self.pushed[message.request, message.attempt]

    def break_write(self, number: int) -> None:
        self.room.sender.failures.append(failure(self.dice.random() < 0.5))

    def raise_in_rank(self, number: int) -> None:
        error = ErrorInfo("rank_failed", "scripted")
        self.room.ranks.errors[self.dice.randrange(2), f"r{number + 1}"] = error

    def kill(self) -> None:
        self.room.ranks.die()
        self.room.ranks = SlowRanks(self.dice)
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self.room.engine.door.attach, self.room.ranks)

    async def next_epoch(self) -> None:
        await self.room.engine.forget()
        ended = {(m.request, m.attempt) for m in self.room.said if isinstance(m, ENDS)}
        self.forgotten |= self.accepted.keys() - ended
        self.epoch += 1

    async def calm_down(self) -> None:
        """Faults stop, and what is staged gets its grant: everything finishes."""
        self.room.sender.failures.clear()
        async with asyncio.timeout(20):
            while not self.room.engine.idle.is_set():
                self.push(0)
                await asyncio.sleep(0)

    def check(self) -> None:
        ends: Counter[Key] = Counter()
        for message in self.room.said:
            if isinstance(message, ENDS):
                key = (message.request, message.attempt)
                late = bool(ends[key]) or message.epoch != self.accepted.get(key)
                if isinstance(message, Aborted) and late:
                    continue  # an abort that came too late is answered too
                ends[key] += 1
                assert not late, f"{message} is one end too many"
        assert all(ends[key] == (key not in self.forgotten) for key in self.accepted)


@pytest.mark.parametrize("seed", range(40))
async def test_everything_ends_once_and_comes_home(seed: int) -> None:
    storm = Storm(seed)
    async with storm.room:
        await storm.blow(300)
        await storm.room.at_home()
        storm.check()
