"""What the leader's engine adds to a step: microseconds, with one and with eight requests.

    python -m benchmarks.engine_overhead [--steps 2000] [--json FILE]

The real engine, scheduler, door and messages in one process, with ranks that answer at once: each
plan is framed, sent through a socketpair, decoded, answered and decoded again, as between a leader
and its rank. Told is the processor time of it all per step of a request: in turns (each plan steps
one request) and shared (each plan steps all of them), for each schedule.
"""

import argparse
import asyncio
import json
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.environment import describe
from roles.calls import (
    Call,
    Frames,
    Meanwhile,
    Reply,
    Run,
    call_decoder,
    frame,
    reply_decoder,
)
from roles.leader.scheduler import Scheduler
from roles.leader.turns import Schedule
from tests.support.batching import Eager
from tests.support.engine_room import EngineRoom, FakeRanks
from transfer.results import PoolResult, RankResult

RUNNING = (1, 8)
ROUNDS = 5


class _Forgetful(list[str]):
    def append(self, line: str) -> None:
        """A benchmark tells no story."""


class WiredRanks(FakeRanks):
    """Every call and its answer pass a socketpair, in frames."""

    def __init__(self, steps: int, batch_key: str | None) -> None:
        super().__init__()
        self.steps, self.batch_key = steps, batch_key
        self.stepped = 0
        self._ends = socket.socketpair()
        self.done = _Forgetful()
        self._frames = (Frames(), Frames())

    async def call(
        self,
        message: Call,
        seconds: float,
        meanwhile: Callable[[Meanwhile], None] | None = None,
    ) -> PoolResult:
        if isinstance(message, Run):
            self.stepped += sum(len(group) for group in message.groups)
        call = self._through(0, frame(message), call_decoder)
        result = await super().call(call, seconds)
        value = result.results[0].value
        reply = self._through(1, frame(Reply(0, True, value)), reply_decoder)
        await asyncio.sleep(0)  # the loop turns, as when a socket has become readable
        return PoolResult((RankResult(0, 1000, True, reply.value),))

    def _through(self, end: int, data: bytes, decoder):  # type: ignore[no-untyped-def]
        self._ends[end].sendall(data)
        (one,) = self._frames[end].feed(self._ends[1 - end].recv(1 << 16))
        return decoder.decode(one)

    def close(self) -> None:
        for end in self._ends:
            end.close()


async def measure(schedule: Schedule, running: int, shared: bool, steps: int) -> float:
    """Microseconds of processor time for each step of a request."""
    capacity = {"encoder": 2, "denoiser": running + 1, "decoder": 2, "monolithic": 2}
    async with EngineRoom(capacity=capacity) as room:  # type: ignore[arg-type]
        ranks = WiredRanks(10**9, "k" if shared else None)
        scheduler = Scheduler(running, Eager() if shared else None, schedule)
        room.ranks = ranks
        room.engine._scheduler = room.scheduler = scheduler
        room.engine.door.attach(ranks)
        for number in range(running):
            room.accept(room.work(f"r{number}", "denoiser"))
            await asyncio.sleep(0)
        while ranks.stepped < steps // 4:
            await asyncio.sleep(0)
        room.said.clear()
        before, began = ranks.stepped, time.process_time()
        while ranks.stepped - before < steps:
            await asyncio.sleep(0.001)
        taken = (time.process_time() - began) / (ranks.stepped - before)
        await room.engine.forget()
        ranks.close()
    return 1e6 * taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000, help="of each round (default: 2000)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    print(f"{describe()}; microseconds of processor time per step of a request\n")
    print("| schedule | requests | in turns | shared |\n|---|---:|---:|---:|")
    rows: list[dict[str, object]] = []
    schedules: tuple[Schedule, ...] = ("sjf", "fifo", "round_robin")
    for schedule in schedules:
        for running in RUNNING:
            turns, shared = (
                statistics.median(
                    asyncio.run(measure(schedule, running, share, options.steps))
                    for _ in range(ROUNDS)
                )
                for share in (False, True)
            )
            print(f"| {schedule} | {running} | {turns:.0f} | {shared:.0f} |", flush=True)
            rows.append(
                {"schedule": schedule, "running": running, "turns": turns, "shared": shared}
            )
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
