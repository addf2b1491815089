"""Pictures per second of `triptych up` in three placements, beside what one would write without it.

    python -m benchmarks.throughput [--quick] [--monolithic] [--steps 20] [--seconds 4] [--rounds 2]
                                    [--poisson-seconds 20] [--json FILE]

The demo model, all of it on the same cores. Served: *1:1:1*, one instance of each role; *one
process*, one instance with all three roles; *chosen*, what `triptych up` starts when it is told
nothing; if asked for, *monolithic*, an instance with the whole pipeline for each core. Without us:
(a) the plain pipeline called in a loop with torch's default threads; (b) the same behind a minimal
FastAPI server, one request at a time; (c) static batches of up to 8; (d) as many plain loops with
one thread as there are cores.

Everything is started beforehand and measured in turns, round by round, so that a noisy neighbour
meets all of it; ratios are of medians over the rounds. With 1, 4 and 16 clients that ask again as
soon as they are answered; then, *chosen* and (c) only, requests that come at random (Poisson) at
shares of what (c) reaches with 16 clients, the same times for both.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.overhead import MODEL
from benchmarks.throughput.load import Result, arrivals, closed, opened
from benchmarks.throughput.plain import Loops
from benchmarks.throughput.plain_server import PlainServer
from benchmarks.throughput.spent import Processes, Spent, of_cluster
from launch import Cluster
from launch.machine import usable_cores
from launch.plan import BATCH_OF_SMALL

CLIENTS = (1, 4, 16)
SHARES = (0.5, 0.8, 1.2)
SERVED = {
    "1:1:1": {"encoders": 1, "denoisers": 1, "decoders": 1},
    "one process": {"all_in_one": 1},
    "chosen": {},
}
LOOP, LOCK, BATCH, LOOPS = "(a) loop", "(b) lock", "(c) batch", "(d) loops"
# what is aimed at: (clients, over, ratio)
AIMS = ((1, LOOP, 0.95), (16, LOOP, 1.6), (16, LOOPS, 1.1))

Contender = Callable[[int], Result]


class Benchmark:
    """All contenders, running; `measure` has each of them at work alone."""

    def __init__(self, stack: ExitStack, options: argparse.Namespace) -> None:
        self._steps, self._seconds = options.steps, options.seconds
        self.urls: dict[str, str] = {}
        self.plans: dict[str, str] = {}
        self._processes: dict[str, Processes] = {}
        self.served = {**SERVED, **(_monolithic() if options.monolithic else {})}
        for name, counts in self.served.items():
            cluster = stack.enter_context(Cluster(MODEL, **counts))
            self.urls[name] = cluster.url
            self.plans[name] = _plan_of(cluster)
            self._processes[name] = of_cluster(cluster)
        for name, kind in ((LOCK, "lock"), (BATCH, "batch")):
            server = stack.enter_context(PlainServer(kind))
            self.urls[name] = server.url
            self._processes[name] = Processes({"pipeline": [server.pid]})
        cores = usable_cores()
        self._loops = {
            LOOP: stack.enter_context(Loops(1, 0, self._steps)),
            LOOPS: stack.enter_context(Loops(cores, 1, self._steps)),
        }

        for name, loops in self._loops.items():
            self._processes[name] = Processes({"pipeline": loops.pids})

    @property
    def names(self) -> list[str]:
        return [*self.served, LOOP, LOCK, BATCH, LOOPS]

    def measure(self, name: str, clients: int) -> tuple[Result, Spent]:
        """What came of it, and the processor seconds that each picture cost. Loops have no clients:
        they do the same, however many wait."""
        before = self._processes[name].seconds()
        if name in self._loops:
            rate, taken = self._loops[name].run(self._seconds)
            result = Result(rate, taken, len(taken))
        else:
            result = closed(self.urls[name], clients, self._seconds, self._steps)
        return result, self._processes[name].since(before, result.made)

    def poisson(self, name: str, times: list[float]) -> Result:
        return opened(self.urls[name], times, self._steps)


def _monolithic() -> dict[str, dict[str, int]]:
    """As *chosen*, but for the roles."""
    return {"monolithic": {"monolithic": usable_cores(), "max_batch": BATCH_OF_SMALL}}


def _plan_of(cluster: Cluster) -> str:
    """What `up` printed of its choice."""
    lines = [line for line in cluster.log().splitlines() if line.startswith("up ")]
    return lines[0].partition("| ")[2]


def closed_rows(bench: Benchmark, rounds: int, clients: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = []
    for number in clients:
        for name in bench.urls:
            bench.measure(name, number)  # it warms up, and learns what shares a forward
        results = [
            {name: bench.measure(name, number) for name in bench.names} for _ in range(rounds)
        ]
        for name in bench.names:
            rows.append(_closed_row(number, name, [each[name] for each in results]))
            print(_closed_line(rows[-1]), flush=True)
    return rows


def _closed_row(clients: int, name: str, rounds: list[tuple[Result, Spent]]) -> dict[str, Any]:
    rates = [result.rate for result, _ in rounds]
    taken = [second for result, _ in rounds for second in result.taken]
    spent = {group: statistics.median(each[group] for _, each in rounds) for group in rounds[0][1]}
    return {
        "clients": clients,
        "name": name,
        "rate": statistics.median(rates),
        "rates": rates,
        "p50_s": statistics.median(taken),
        "processor_s": spent,
    }


def _closed_line(row: dict[str, Any]) -> str:
    rates = " ".join(f"{rate:.2f}" for rate in row["rates"])
    spent = ", ".join(f"{name} {1000 * each:.0f}" for name, each in row["processor_s"].items())
    figures = f"{row['rate']:.2f} | {1000 * row['p50_s']:.0f} | {rates} | {spent}"
    return f"| {row['clients']} | {row['name']} | {figures} |"


def rate_of(rows: list[dict[str, Any]], clients: int, name: str) -> float:
    return next(r["rate"] for r in rows if (r["clients"], r["name"]) == (clients, name))


def print_ratios(rows: list[dict[str, Any]], served: list[str], clients: tuple[int, ...]) -> None:
    print(f"\n| clients | served | over {LOOP} | {LOCK} | {BATCH} | {LOOPS} |")
    print("|---:|---|---:|---:|---:|---:|")
    for number in clients:
        for name in served:
            rate = rate_of(rows, number, name)
            over = [rate / rate_of(rows, number, other) for other in (LOOP, LOCK, BATCH, LOOPS)]
            print(f"| {number} | {name} | " + " | ".join(f"{ratio:.2f}" for ratio in over) + " |")
    print()
    for number, other, aim in AIMS:
        if number in clients:
            ratio = rate_of(rows, number, "chosen") / rate_of(rows, number, other)
            verdict = "reached" if ratio >= aim else "missed"
            print(f"chosen over {other} with {number} clients: {ratio:.2f}, aim {aim}: {verdict}")


def poisson_rows(bench: Benchmark, capacity: float, seconds: float) -> list[dict[str, Any]]:
    print("\n| share | requests/s | name | pictures/s | p50 ms | p95 ms |")
    print("|---:|---:|---|---:|---:|---:|")
    rows = []
    for share in SHARES:
        times = arrivals(share * capacity, seconds)
        for name in ("chosen", BATCH):
            result = bench.poisson(name, times)
            p50, p95 = statistics.median(result.taken), statistics.quantiles(result.taken, n=20)[-1]
            asked = len(times) / seconds
            row = {"share": share, "asked": asked, "name": name, "rate": result.rate}
            rows.append({**row, "p50_s": p50, "p95_s": p95})
            figures = f"{asked:.2f} | {name} | {result.rate:.2f}"
            print(f"| {share} | {figures} | {1000 * p50:.0f} | {1000 * p95:.0f} |", flush=True)
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round, 1 and 16 clients")
    parser.add_argument("--monolithic", action="store_true", help="one contender more")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--poisson-seconds", type=float, default=20.0, help="of arrivals")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.poisson_seconds = 1, 3.0, 10.0
    return options


def main() -> None:
    options = arguments()
    clients = (1, 16) if options.quick else CLIENTS
    with ExitStack() as stack:
        bench = Benchmark(stack, options)
        print(f"{describe()}; {options.steps} steps\n")
        for name, plan in bench.plans.items():
            print(f"- {name}: {plan}")
        print("\n| clients | | pictures/s | p50 ms | rounds | processor ms of a picture |")
        print("|---:|---|---:|---:|---|---|")
        rows = closed_rows(bench, options.rounds, clients)
        print_ratios(rows, list(bench.served), clients)
        capacity = rate_of(rows, 16, BATCH)
        poisson = poisson_rows(bench, capacity, options.poisson_seconds)
    if options.json:
        told = {"environment": describe(), "plans": bench.plans, "closed": rows, "poisson": poisson}
        options.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
