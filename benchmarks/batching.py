"""The denoiser role alone: requests per second with 1, 4 and 8 running, in turns and batched.

    python -m benchmarks.batching [--family demo] [--steps 20] [--seconds 10] [--json FILE]

A denoiser's scheduler and steps in this process, one thread, no sockets and no other roles: `n`
requests run at all times, and whoever ends is replaced at once. *turns*: every forward is one
request's. *batched*: what is served by default, the learning of whether it pays included.
*forward*: one request's call of the transformer against the same for `n`, nothing else; no engine
can gain more. The three are measured in turns, and seconds are processor time of the one thread:
what it would take if nobody else computed on this machine.

`--family` is demo, or a name of `tests.support.pipelines` (tiny random models).
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.environment import describe
from benchmarks.overhead import MODEL
from roles.calls import Key
from roles.leader.batch_costs import BatchCosts
from roles.leader.scheduler import Arrived, Ended, Ran, Scheduler
from roles.rank.stepping import Stepper
from roles.split.denoising.batching import key_of, merge
from roles.split.loading import load
from roles.split.program import Call, Denoising, Program
from tests.support import pipelines
from transfer.messages import Inputs

RUNNING = (1, 4, 8)
ROUNDS = 3
PROMPTS = ("a red circle above a blue square", "two green stars", "a small orange star")
SLICE_S = 0.25


@dataclass
class Model:
    """A program, and encoded requests for it."""

    program: Program
    asked: list[tuple[Call, Any]]

    def denoising(self, number: int) -> Denoising:
        call, payload = self.asked[number % len(self.asked)]
        return self.program.denoise(call, copy.deepcopy(payload))


@dataclass
class Live:
    key: Key
    denoising: Denoising

    @property
    def batch_key(self) -> str | None:
        return key_of(self.denoising.pending[0]) if self.denoising.pending else None

    @property
    def stops(self) -> bool:
        return False


class Denoiser:
    """The scheduler and the stepper of one rank, driven as by its engine."""

    def __init__(self, model: Model, running: int, costs: BatchCosts | None) -> None:
        self.finished = 0
        self._model = model
        self._scheduler = Scheduler(running, costs)
        self._stepper = Stepper(lambda: None, SLICE_S, lambda: False)
        self._live: dict[Key, Live] = {}
        self._begun = 0
        for _ in range(running):
            self._begin()

    def run(self, seconds: float) -> float:
        """Requests per second."""
        before, began, until = self._steps(), time.thread_time(), time.monotonic() + seconds
        while time.monotonic() < until:
            self.turn()
        return (self._steps() - before) / (time.thread_time() - began)

    def turn(self) -> None:
        plan = self._scheduler.plan()
        assert plan is not None
        group = [self._live[key] for key in plan.keys]
        if plan.unit == "begin":
            group[0].denoising.start()
        else:
            turn = self._stepper.take(group, plan.share)
            assert not any(turn.errors), turn.errors
            if turn.measured is not None:
                self._scheduler.handle(turn.measured)
        for live in group:
            self._note(live)

    def _note(self, live: Live) -> None:
        if not live.denoising.done:
            branches = len(live.denoising.pending)
            self._scheduler.handle(Ran(live.key, live.batch_key, branches))
            return
        live.denoising.result()
        self._scheduler.handle(Ended(live.key))
        del self._live[live.key]
        self.finished += 1
        self._begin()

    def _begin(self) -> None:
        key = (f"r{self._begun}", 1)
        self._live[key] = Live(key, self._model.denoising(self._begun))
        self._scheduler.handle(Arrived(key, "denoiser"))
        self._begun += 1

    def _steps(self) -> float:
        """Requests that are done, with the shares of those that run."""
        shares = [each.denoising.step / each.denoising.steps for each in self._live.values()]
        return self.finished + sum(shares)


class Starts(Protocol):
    """Whatever has requests to begin."""

    def denoising(self, number: int) -> Denoising: ...


def forward_seconds(
    model: Starts, size: int, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The median of one transformer call for so many requests."""
    denoisings = [model.denoising(number) for number in range(size)]
    for denoising in denoisings:
        denoising.start()
    merged, _ = merge([call for denoising in denoisings for call in denoising.pending])
    merged.run()
    taken = []
    for _ in range(repeats):
        began = clock()
        merged.run()
        taken.append(clock() - began)
    for denoising in denoisings:
        denoising.cancel()
    return statistics.median(taken)


def measure(model: Model, seconds: float) -> list[dict[str, float]]:
    rows = []
    for running in RUNNING:
        alone = Denoiser(model, running, None)
        batched = Denoiser(model, running, BatchCosts())
        batched.run(seconds / ROUNDS)  # it learns
        rounds = [_round(model, running, alone, batched, seconds / ROUNDS) for _ in range(ROUNDS)]
        row = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        rows.append({"running": running, **row})
    return rows


def _round(
    model: Model, running: int, alone: Denoiser, batched: Denoiser, seconds: float
) -> dict[str, float]:
    turns, together = alone.run(seconds), batched.run(seconds)
    one, many = forward_seconds(model, 1, 10), forward_seconds(model, running, 10)
    return {
        "turns": turns,
        "batched": together,
        "gain": together / turns,
        "forward_ms": 1000 * many,
        "forward_gain": running * one / many,
    }


def load_model(family: str, steps: int, folder: Path) -> Model:
    if family == "demo":
        path, params = MODEL, {}
    else:
        path, params = pipelines.build(family, folder / family), pipelines.PARAMS[family]
    program = load(path, ["encoder", "denoiser", "decoder"], "float32")
    own = {"num_inference_steps": steps}
    asked = [
        Call(f"r{number}", Inputs({**params, **own, "prompt": prompt}, number))
        for number, prompt in enumerate(PROMPTS)
    ]
    return Model(program, [(call, program.encode(call)) for call in asked])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--family", default="demo")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each column of a row")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(options.family, options.steps, Path(folder))
    print(f"{describe()}; {options.family}, {options.steps} steps, 1 thread\n")
    print("| running | turns, requests/s | batched | gain | forward ms | its gain |")
    print("|---:|---:|---:|---:|---:|---:|")
    rows = measure(model, options.seconds)
    for row in rows:
        gains = f"{row['gain']:.2f} | {row['forward_ms']:.2f} | {row['forward_gain']:.2f}"
        print(f"| {row['running']} | {row['turns']:.2f} | {row['batched']:.2f} | {gains} |")
    if options.json:
        told = {"environment": describe(), "family": options.family, "rows": rows}
        options.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
