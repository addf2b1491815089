"""Requests of many sizes at one denoiser: how long they take under each schedule.

    python -m benchmarks.mixed_load [--quick] [--real] [--json FILE]

The mix: 64, 128 and 256 pixels square (50, 35 and 15 in a hundred), 10, 20 and 50 steps (40, 40 and
20). Two loads. *poisson*: an open loop at 0.5, 0.7, 0.85 and 0.95 of capacity, which is what one
request at a time can do; latency counts from the moment at which a request was to arrive, whether
anybody was ready for it or not. *head of line*: 4 long requests (256 pixels, 50 steps), and right
behind them 36 short ones (64 pixels, 10 steps). Told are p50, p95 and p99 in seconds, and how many
requests of a hundred took at most three times what they take alone.

Schedules: `one at a time` (peers: in order, nothing shared), and `fifo`, `round_robin` and `sjf`
as they are served, shared forwards included. Each denoiser has as many requests at a time as a
leader does; the others wait in a line that is ordered as the orchestrator's.

Scheduler, costs and predictions are the real ones. Their ranks are the demo model's with --real:
its forwards run, and the clock is the processor time of this process, so that a noisy neighbour
does not count and nobody waits for an arrival. Without it, a step takes what it was measured to
take beforehand, by size and by how many shared it: so thousands of requests can be tried.

*routing* (V13): two instances behind the real core, and 60 requests of the mix at once: the seconds
until the last is done, with policies that count requests and with the one that predicts seconds.
Once with places for all, so that each request is bound to an instance at once, as in peers; and
once with as many places as a denoiser has, where the others wait in line for whoever is free.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.batching import forward_seconds, load_model
from benchmarks.environment import describe
from benchmarks.queueing import MAX_BATCH, Asked, Denoiser, Live, MeasuredRanks, Ranks, head_of_line
from benchmarks.routing import REQUESTS, makespan
from roles.calls import Key, Measured
from roles.rank.stepping import Stepper
from roles.split.denoising.batching import key_of
from roles.split.program import Call, Denoising, Program
from transfer.messages import Inputs

SIZES = {64: 50, 128: 35, 256: 15}
STEPS = {10: 40, 20: 40, 50: 20}
LOADS = (0.5, 0.7, 0.85, 0.95)
SLO = 3.0
TARGET = 1.5
SCHEDULES = ("one at a time", "fifo", "round_robin", "sjf")


@dataclass
class RealLive(Live):
    denoising: Denoising | None = None

    @property
    def batch_key(self) -> str | None:
        if self.denoising is None or not self.denoising.pending:
            return None
        return key_of(self.denoising.pending[0])

    @property
    def stops(self) -> bool:
        return False

    def close(self) -> None:
        assert self.denoising is not None
        self.denoising.cancel()


class RealRanks:
    """The demo model; seconds are processor time."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._stepper = Stepper(lambda: None, 0.0, lambda: True)
        self._payloads: dict[tuple[int, int], tuple[Call, object]] = {}

    def live(self, key: Key, asked: Asked) -> Live:
        return RealLive(key, asked)

    def begin(self, live: Live) -> None:
        assert isinstance(live, RealLive)
        kind = (live.asked.side, live.asked.steps)
        if kind not in self._payloads:
            self._payloads[kind] = encoded(self._program, *kind)
        live.denoising = self._program.denoise(*self._payloads[kind])
        live.denoising.start()

    def take(self, group: Sequence[Live]) -> tuple[float, Measured | None]:
        began = time.process_time()
        real = [live for live in group if isinstance(live, RealLive)]
        turn = self._stepper.take(real)
        assert not any(turn.errors), turn.errors
        for live in real:
            assert live.denoising is not None
            live.step = live.denoising.step
        return time.process_time() - began, turn.measured


def encoded(program: Program, side: int, steps: int) -> tuple[Call, object]:
    params: dict[str, Any] = {
        "prompt": "a red circle",
        "width": side,
        "height": side,
        "guidance_scale": 1.0,
    }
    call = Call("bench", Inputs({**params, "num_inference_steps": steps}, 1))
    return call, program.encode(call)


def poisson(load: float, count: int, alone: Callable[[int, int], float]) -> list[Asked]:
    dice = random.Random(7)
    kinds = [drawn(dice) for _ in range(count)]
    mean = statistics.mean(alone(*kind) for kind in kinds)
    story, at = [], 0.0
    for side, steps in kinds:
        at += dice.expovariate(load / mean)
        story.append(Asked(at, side, steps))
    return story


def drawn(dice: random.Random) -> tuple[int, int]:
    (side,) = dice.choices(list(SIZES), list(SIZES.values()))
    (steps,) = dice.choices(list(STEPS), list(STEPS.values()))
    return side, steps


def told(
    latencies: list[tuple[Asked, float]], alone: Callable[[int, int], float]
) -> dict[str, float]:
    seconds = sorted(latency for _, latency in latencies)
    met = sum(took <= SLO * alone(asked.side, asked.steps) for asked, took in latencies)
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "slo": met / len(latencies)}


def step_seconds(program: Program, repeats: int) -> dict[int, dict[int, float]]:
    """What a step takes, by side and by how many share it: processor seconds, the least of some."""
    found: dict[int, dict[int, float]] = {}
    for side in SIZES:
        model = _Encoded(program, side)
        found[side] = {
            size: forward_seconds(model, size, repeats, time.process_time)
            for size in range(1, MAX_BATCH + 1)
        }
    return found


class _Encoded:
    """What `forward_seconds` asks of a model."""

    def __init__(self, program: Program, side: int) -> None:
        self._program = program
        self._asked = encoded(program, side, 10)

    def denoising(self, number: int) -> Denoising:
        return self._program.denoise(*self._asked)


def table(rows: list[dict[str, object]]) -> str:
    lines = ["| load | schedule | p50 s | p95 s | p99 s | SLO % |", "|---|---|---:|---:|---:|---:|"]
    for row in rows:
        figures = " | ".join(f"{row[name]:.2f}" for name in ("p50", "p95", "p99"))
        share = 100 * float(row["slo"])  # type: ignore[arg-type]
        lines.append(f"| {row['load']} | {row['schedule']} | {figures} | {share:.0f} |")
    return "\n".join(lines)


def measure(
    make: Callable[[], Ranks], count: int, alone: Callable[[int, int], float]
) -> list[dict[str, object]]:
    stories = {f"{load:g}": poisson(load, count, alone) for load in LOADS}
    stories["head of line"] = head_of_line()
    return [
        {"load": load, "schedule": schedule, **told(Denoiser(schedule, make()).run(story), alone)}
        for load, story in stories.items()
        for schedule in SCHEDULES
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    parser.add_argument("--real", action="store_true", help="run every forward")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    program = load_model("demo", 10, Path()).program
    seconds = step_seconds(program, 3 if options.quick else 9)

    def alone(side: int, steps: int) -> float:
        return steps * seconds[side][1]

    count = (20 if options.quick else 80) if options.real else (300 if options.quick else 3000)
    kind = "real forwards" if options.real else "steps as measured"
    print(f"{describe()}; {kind}, {count} requests for each load, 1 thread\n")
    for side, each in seconds.items():
        costs = ", ".join(f"{n}: {1000 * s:.1f}" for n, s in each.items())
        print(f"a step at {side} pixels, ms by how many share it: {costs}")
    make = (lambda: RealRanks(program)) if options.real else (lambda: MeasuredRanks(seconds))
    rows = measure(make, count, alone)
    print("\n" + table(rows))
    p95 = {row["schedule"]: row["p95"] for row in rows if row["load"] == "head of line"}
    gain = p95["fifo"] / p95["sjf"]  # type: ignore[operator]
    verdict = "reached" if gain >= TARGET else "missed"
    print(f"\nhead of line: sjf's p95 is x{gain:.2f} below fifo's (target {TARGET}): {verdict}")
    spans = {places: makespan(alone, drawn, places) for places in (REQUESTS, 2 * MAX_BATCH + 1)}
    print("\nrouting, seconds until the last of 60 is done, median of 25 stories")
    for places, span in spans.items():
        told_spans = ", ".join(f"{policy} {seconds:.2f}" for policy, seconds in span.items())
        print(f"{places} places in each instance: {told_spans}")
    if options.json:
        found = {"environment": describe(), "steps": seconds, "rows": rows, "routing": spans}
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
