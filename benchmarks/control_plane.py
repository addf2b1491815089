"""Requests per second and latency through the whole control plane, with scripted compute.

    python -m benchmarks.control_plane [--rows ROW,ROW] [--seconds S] [--json FILE]

Caller, orchestrator and three roles are separate processes. Rows:
- trivial: the HTTP caller against a server that answers at once: the caller's own part of *http*;
- core: requests come through a small socket in the orchestrator's process straight to its service:
  control channel, codec, core and scripted roles;
- http: `POST /v1/images/generations` to the real front door, the picture's bytes in the reply;
- jobs: as http, each with an Idempotency-Key: journalled before it begins, its file stored and its
  end journalled before the reply;
- leaders: as http, but with real leaders and ranks whose program does nothing.

Each at 1, 8 and 64 requests at a time. Beside the rates stands the processor time of one request
in each process, split into Python ("main") and ZeroMQ's own thread ("zmq"), and by layers for the
orchestrator's main thread, which is sampled.
Targets: 3,000 requests/s, and 1 ms at p50 with one at a time.
"""

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.environment import describe
from benchmarks.scripted.echo import round_trips
from benchmarks.scripted.processes import Started, ready, started
from roles.options import RoleOptions
from transfer.codec import PROTOCOL
from transfer.messages import SPLIT_ROUTE

ROWS = ("trivial", "core", "http", "jobs", "leaders")
CONCURRENCIES = (1, 8, 64)
TARGET_RPS, TARGET_P50_MS = 3000.0, 1.0
CAPACITY = 64
WARM_S = 0.5
PROGRAM = "benchmarks.scripted.program:load"

Row = dict[str, Any]


@contextlib.contextmanager
def trivial() -> Iterator[list[Started]]:
    with started("orchestrator", "benchmarks.scripted.front", "trivial") as server:
        yield [ready(server)]


@contextlib.contextmanager
def cluster(front: list[str], leaders: bool) -> Iterator[list[Started]]:
    """An orchestrator and three roles that it is ready to use."""
    with contextlib.ExitStack() as stack:
        orchestrator = ready(stack.enter_context(started("orchestrator", *front)))
        control = orchestrator.facts["control"]
        make = leader if leaders else scripted
        roles = [stack.enter_context(started(r, *make(control, r))) for r in SPLIT_ROUTE]
        yield [orchestrator, *map(ready, roles)]


def scripted(control: str, role: Any) -> list[str]:
    return ["benchmarks.scripted.role", control, role, str(CAPACITY)]


def leader(control: str, role: Any) -> list[str]:
    options = RoleOptions(
        orchestrator=control,
        model="fine",
        roles=(role,),
        threads=1,
        transfer="shm",
        slots=2 * CAPACITY,
        slot_bytes=1 << 16,
    )
    plain = msgspec.json.encode((None, PROTOCOL)).decode()  # no fault
    return ["tests.support.leader_process", msgspec.json.encode(options).decode(), PROGRAM, plain]


def processes(row: str) -> contextlib.AbstractContextManager[list[Started]]:
    if row == "trivial":
        return trivial()
    if row == "core":
        return cluster(["benchmarks.scripted.feeder"], leaders=False)
    front = ["benchmarks.scripted.front", "orchestrator"]
    return cluster(front, leaders=row == "leaders")


def measure(row: str, seconds: float) -> list[Row]:
    with processes(row) as running:
        return [ask(row, running, concurrency, seconds) for concurrency in CONCURRENCIES]


def ask(row: str, running: list[Started], concurrency: int, seconds: float) -> Row:
    """One caller's figures, and the processor time of a request in microseconds by process."""
    url = running[0].facts["http"]
    if row == "jobs":
        url = url.replace("http://", "jobs://")
    arguments = (url, str(concurrency), str(WARM_S), str(seconds))
    with started("caller", "benchmarks.scripted.caller", *arguments) as caller:
        assert caller.line() == "begin"
        before = [process.processor_s() for process in running]
        running[0].ask()
        figures = json.loads(caller.line())
        after = [process.processor_s() for process in running]
        samples = json.loads(running[0].ask())
    spent = {"caller": figures["processor_s"] / figures["requests"] * 1e6}
    for process, earlier, later in zip(running, before, after, strict=True):
        for kind in later:
            microseconds = (later[kind] - earlier[kind]) / figures["requests"] * 1e6
            spent[f"{process.name} {kind}"] = microseconds
    share = spent["orchestrator main"] / max(1, sum(samples.values()))
    layers = {layer: count * share for layer, count in samples.items()}
    measured = {"row": row, "concurrency": concurrency, **figures}
    return measured | {"processor_us": spent, "layers_us": layers}


def table(rows: list[Row]) -> str:
    """Markdown: the rates, then microseconds of processor time for each request."""
    head = (
        "| row | at once | requests/s | p50 ms | p99 ms | orchestrator | its zmq | roles | caller |"
    )
    lines = [head, "|---|" + "---:|" * 8]
    for row in rows:
        spent = row["processor_us"]
        roles = sum(us for name, us in spent.items() if name.split()[0] in SPLIT_ROUTE)
        parts = (spent["orchestrator main"], spent["orchestrator zmq"], roles, spent["caller"])
        lines.append(
            f"| {row['row']} | {row['concurrency']} | {row['requests'] / row['seconds']:,.0f} "
            f"| {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | "
            + " | ".join(f"{us:.0f}" for us in parts)
            + " |"
        )
    return "\n".join(lines)


def layer_table(rows: list[Row]) -> str:
    """Markdown: where the processor time of the orchestrator's own thread goes."""
    shown = [row for row in rows if row["row"] in ("core", "http")]
    layers = sorted({layer for row in shown for layer in row["layers_us"]}, key=_largest(shown))
    head = ["layer", *(f"{row['row']}, {row['concurrency']} at once" for row in shown)]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * len(shown)]
    for layer in layers:
        cells = (f"{row['layers_us'].get(layer, 0):.0f}" for row in shown)
        lines.append(f"| {layer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _largest(rows: list[Row]) -> Callable[[str], float]:
    return lambda layer: -sum(row["layers_us"].get(layer, 0) for row in rows)


def verdicts(rows: list[Row]) -> Iterator[str]:
    for name in ("core", "http"):
        mine = [row for row in rows if row["row"] == name]
        if mine:
            best = max(row["requests"] / row["seconds"] for row in mine)
            yield _verdict(name, f"{best:,.0f} requests/s", TARGET_RPS, best >= TARGET_RPS)
            p50 = mine[0]["p50_ms"]
            yield _verdict(name, f"p50 {p50:.2f} ms", TARGET_P50_MS, p50 <= TARGET_P50_MS)


def _verdict(name: str, found: str, target: float, reached: bool) -> str:
    return f"{name}: {found} (target {target:,.0f}): {'reached' if reached else 'missed'}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each figure (default: 3)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    rows = [row for name in options.rows.split(",") for row in measure(name, options.seconds)]
    print(f"{describe()}. The last four columns: µs of processor time per request.\n")
    print(table(rows), end="\n\n")
    print(layer_table(rows), end="\n\n")
    print(f"ZeroMQ alone, three round trips: {round_trips(options.seconds):.2f} ms")
    print("\n".join(verdicts(rows)))
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
