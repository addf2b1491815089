"""What is left of the throughput when far more is asked for than can be done.

    python -m benchmarks.overload [--seconds 10] [--work-ms 20] [--queue 50] [--json FILE]

Orchestrator, one scripted instance of each role and a crowd of clients, each a process of its own.
The denoiser does one work after the other, WORK_MS each, which is what bounds the cluster. First
its capacity is measured, with as many at once as it takes; then clients come at random (Poisson,
open loop) at 0.5, 1, 2 and 5 times that, and at 0.5 again. QUEUE requests may wait for an instance;
whoever comes then gets a 429.

Targets: at 5 times the capacity at least 0.9 of what is completed at 1; a Retry-After on each 429;
no other answer than 200 and 429; and at 0.5 again nothing is as it was not at the beginning.
"""

import argparse
import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.environment import describe
from benchmarks.scripted.processes import Started, ready, started
from transfer.messages import SPLIT_ROUTE

LOADS = (0.5, 1.0, 2.0, 5.0, 0.5)
TARGET = 0.9
CAPACITY = 16  # of each role
WARM_S, MEASURE_S = 0.5, 3.0
LOOK_S = 0.05
HOME_S = 30.0  # for everything to come home after an overload
Row = dict[str, Any]


@contextlib.contextmanager
def cluster(work_ms: float, queue: int) -> Iterator[Started]:
    """The orchestrator, with three roles that it is ready to use."""
    with contextlib.ExitStack() as stack:
        front = ("benchmarks.scripted.front", "orchestrator", str(queue))
        orchestrator = ready(stack.enter_context(started("orchestrator", *front)))
        control = orchestrator.facts["control"]
        for role in SPLIT_ROUTE:
            each_ms = work_ms if role == "denoiser" else 0.0
            words = ("benchmarks.scripted.slow_role", control, role, str(CAPACITY), str(each_ms))
            ready(stack.enter_context(started(role, *words)))
        yield orchestrator


def capacity(orchestrator: Started) -> float:
    """Requests per second with as many at once as the cluster takes."""
    url, at_once = orchestrator.facts["http"], str(2 * CAPACITY)
    words = ("benchmarks.scripted.caller", url, at_once, str(WARM_S), str(MEASURE_S))
    with started("caller", *words) as caller:
        assert caller.line() == "begin"
        figures = json.loads(caller.line())
    return float(figures["requests"] / figures["seconds"])


class Memory:
    """The largest resident memory of a process while the block runs, in MiB."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self.peak = self.now

    @property
    def now(self) -> float:
        return float(self._process.memory_info().rss / (1 << 20))

    def __enter__(self) -> "Memory":
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self.peak = max(self.peak, self.now)


def measure(orchestrator: Started, rate: float, load: float, seconds: float) -> Row:
    url = orchestrator.facts["http"]
    before = held(orchestrator)
    words = ("benchmarks.scripted.crowd", url, str(load * rate), str(seconds))
    with Memory(orchestrator.process.pid) as memory, started("crowd", *words) as crowd:
        figures = json.loads(crowd.line())
    return {
        "load": load,
        "seconds": seconds,
        **figures,
        "peak_mib": memory.peak,
        "left": comes_home(before, orchestrator),
    }


def held(orchestrator: Started) -> dict[str, int]:
    """What must be as before when nothing is under way."""
    url, pid = orchestrator.facts["http"], orchestrator.process.pid
    with urllib.request.urlopen(f"{url}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    with urllib.request.urlopen(f"{url}/v1/cluster") as reply:
        cluster = json.load(reply)
    instances = [each for role in cluster["roles"].values() for each in role]
    return {
        "tasks": int(float(next(x for x in lines if x.startswith("triptych_tasks ")).split()[1])),
        "descriptors": psutil.Process(pid).num_fds(),
        "waiting": cluster["requests"]["queued"] + cluster["requests"]["running"],
        "slots": sum(e["slots"]["leased"] + e["slots"]["quarantined"] for e in instances),
        "violations": sum("integrity_violations" in x for x in lines),
    }


def comes_home(before: dict[str, int], orchestrator: Started) -> dict[str, int]:
    """What there still is more of than before; {} as soon as everything is as it was."""
    until = time.monotonic() + HOME_S
    while True:
        after = held(orchestrator)
        left = {name: n - before[name] for name, n in after.items() if n > before[name]}
        if not left or time.monotonic() > until:
            return left
        time.sleep(LOOK_S)


def completed(row: Row) -> float:
    """Pictures per second, while the crowd came."""
    return float(row["in_time"] / row["seconds"])


def table(rows: list[Row]) -> str:
    """Markdown."""
    head = "| load | asked/s | completed/s | 429 | with Retry-After | others | p50 ms | p99 ms |"
    lines = [f"{head} peak MiB | left |", "|---:|" + "---:|" * 9]
    for row in rows:
        statuses, asked = row["statuses"], row["asked"]
        refused = statuses.get("429", 0)
        others = asked - refused - statuses.get("200", 0)
        lines.append(
            f"| {row['load']:g} | {asked / row['seconds']:,.0f} | {completed(row):,.1f} "
            f"| {refused / asked:.0%} | {row['with_retry_after']} of {refused} | {others} "
            f"| {row['p50_ms']:.0f} | {row['p99_ms']:.0f} | {row['peak_mib']:.0f} "
            f"| {row['left'] or 'nothing'} |"
        )
    return "\n".join(lines)


def verdict(rows: list[Row]) -> str:
    at = {row["load"]: row for row in rows}
    share = completed(at[5.0]) / completed(at[1.0])
    clean = all(
        set(row["statuses"]) <= {"200", "429"}
        and row["with_retry_after"] == row["statuses"].get("429", 0)
        and not row["left"]
        for row in rows
    )
    reached = "reached" if share >= TARGET and clean else "missed"
    return (
        f"At 5 times the capacity {share:.2f} of what is completed at 1 (target {TARGET:g}), "
        f"{'' if clean else 'not '}all answers as they should be, and all at home after: {reached}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (default: 10)")
    parser.add_argument("--work-ms", type=float, default=20.0, help="of a request (default: 20)")
    parser.add_argument("--queue", type=int, default=50, help="how many may wait (default: 50)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    with cluster(options.work_ms, options.queue) as orchestrator:
        rate = capacity(orchestrator)
        rows = [measure(orchestrator, rate, load, options.seconds) for load in LOADS]
    print(f"{describe()}. Capacity: {rate:,.1f} requests/s.\n")
    print(table(rows), end="\n\n")
    print(verdict(rows))
    if options.json:
        told = {"environment": describe(), "capacity": rate, "rows": rows}
        options.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
