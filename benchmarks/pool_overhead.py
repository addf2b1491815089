"""What a pool of ranks adds to each step: microseconds with one, two and four ranks.

    python -m benchmarks.pool_overhead [--ranks 1 2 4] [--steps 2000] [--json FILE]

Real ranks with a model that computes nothing (`benchmarks.scripted.program`), so what is left is
what the pool, the calls and the ranks' agreements take.

- call: an empty call, from the leader to every rank and back with every answer.
- step by step: one step in each call, as when somebody else's turn comes after every step.
- in a slice: a step among those that the ranks take in one call, 0.25 s of them.

The times are wall time, of the call that only a tenth are faster than: on a machine that others use
too, slower ones tell of them. With more ranks than cores, ranks wait for each other's turn on one.
"""

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path

from benchmarks.environment import describe
from roles.calls import Begin, Call, Drop, Load, Outcomes, Run
from roles.leader.keeper import rank_command
from roles.leader.pool import PoolResult, WorkerPool
from roles.meeting import Meeting
from roles.options import RoleOptions
from transfer.messages import Inputs
from transfer.pool import SlotPool

PROGRAM = "benchmarks.scripted.program:load"
SECONDS = 600.0
ROUNDS = 5
KEY = ("r", 1)
STEP = Run("step", ((KEY,),))


class Bench:
    """A pool whose ranks have loaded nothing, and do it."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    async def call(self, message: Call) -> PoolResult:
        result = await self._pool.call(message, SECONDS)
        assert result.ok, str(result)
        return result

    async def empty(self, count: int) -> float:
        """Seconds of a call."""
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            await self.call(Drop("unknown", 1))
            taken.append(time.perf_counter() - began)
        return sorted(taken)[len(taken) // 10]

    async def steps(self, count: int) -> float:
        """Seconds of each step of a request with so many."""
        await self.call(Begin(*KEY, "monolithic", Inputs({"steps": count}, seed=1), None))
        taken, done = [], 0
        while done < count:
            began = time.perf_counter()
            result = await self.call(STEP)
            assert isinstance(result.first.value, Outcomes)
            (outcome,) = result.first.value.outcomes
            assert outcome.error is None, outcome.error
            taken.append((time.perf_counter() - began) / (outcome.step - done))
            done = outcome.step
        await self.call(Drop(*KEY))
        return sorted(taken)[len(taken) // 10]


async def measure(ranks: int, slice_s: float, steps: int) -> dict[str, float]:
    """Microseconds."""
    options = RoleOptions(
        orchestrator="",
        model="fine",
        roles=("monolithic",),
        ranks=ranks,
        threads=1,
        slice_s=slice_s,
    )
    with SlotPool.create(1, 1 << 16, 1) as slots:
        meeting = Meeting()
        fd = meeting.fd if options.joins else None
        pool = WorkerPool(
            [rank_command(options, rank, PROGRAM, slots.fd, fd) for rank in range(ranks)]
        )
        await pool.start()
        meeting.close()
        try:
            bench = Bench(pool)
            await bench.call(Load("fine", ["monolithic"], "auto"))
            await bench.steps(steps)
            empty = [await bench.empty(steps) for _ in range(ROUNDS)]
            each = [await bench.steps(steps) for _ in range(ROUNDS)]
        finally:
            await pool.kill()
    return {"call": 1e6 * statistics.median(empty), "step": 1e6 * statistics.median(each)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=2000, help="of each round (default: 2000)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    print(f"{describe()}; microseconds\n")
    print("| ranks | call | step by step | in a slice |\n|---:|---:|---:|---:|")
    rows: list[dict[str, float]] = []
    for ranks in options.ranks:
        alone = asyncio.run(measure(ranks, 0.0, options.steps))
        slices = asyncio.run(measure(ranks, 0.25, 10 * options.steps))
        row = {"ranks": ranks, "call": alone["call"], "by_step": alone["step"]}
        rows.append(row | {"in_slice": slices["step"]})
        print(
            f"| {ranks} | {alone['call']:.0f} | {alone['step']:.0f} | {slices['step']:.0f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
