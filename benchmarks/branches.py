"""Branches of guidance that wait together: steps per second of one request at a time.

    python -m benchmarks.branches [--families demo,qwenimage,wan] [--steps 20] [--seconds 6]
                                  [--json FILE]

*plain*: each forward where the pipeline calls it, as with `exact`. *waiting*: the branches of a
step wait together and run one after the other: what waiting costs. *shared*: as served, the
learning of whether one forward for both pays included. A denoiser's scheduler and steps in this
process, one thread, no sockets, no other roles. Seconds are the processor's, so that neighbours
hardly count. The three are measured in turns; the ratios are medians of those of each round.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from benchmarks.batching import Denoiser, Model, load_model
from benchmarks.environment import describe
from roles.leader.batch_costs import BatchCosts

ROUNDS = 7


def exact(model: Model) -> Model:
    """The same requests, each of whose forwards is computed where it is called."""
    asked = [
        (msgspec.structs.replace(call, inputs=msgspec.structs.replace(call.inputs, exact=True)), it)
        for call, it in model.asked
    ]
    return replace(model, asked=asked)


def measure(model: Model, steps: int, seconds: float) -> dict[str, float]:
    ways = {
        "plain": Denoiser(exact(model), 1, None),
        "waiting": Denoiser(model, 1, None),
        "shared": Denoiser(model, 1, BatchCosts()),
    }
    for way in ways.values():
        way.run(seconds / ROUNDS)  # forms are learned, and what they cost
    rounds = [
        {name: steps * way.run(seconds / ROUNDS) for name, way in ways.items()}
        for _ in range(ROUNDS)
    ]
    row = {name: statistics.median(each[name] for each in rounds) for name in ways}
    return {
        **row,
        "waiting_ratio": statistics.median(each["waiting"] / each["plain"] for each in rounds),
        "shared_ratio": statistics.median(each["shared"] / each["plain"] for each in rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--families", default="demo,qwenimage,wan")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each column of a row")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print(f"{describe()}; {options.steps} steps with guidance, 1 thread\n")
    print("| family | plain, steps/s | waiting | shared | waiting/plain | shared/plain |")
    print("|---|---:|---:|---:|---:|---:|")
    rows = []
    for family in options.families.split(","):
        with tempfile.TemporaryDirectory() as folder:
            model = load_model(family, options.steps, Path(folder))
        row = measure(model, options.steps, options.seconds)
        rows.append({"family": family, **row})
        speeds = f"{row['plain']:.1f} | {row['waiting']:.1f} | {row['shared']:.1f}"
        ratios = f"{row['waiting_ratio']:.2f} | {row['shared_ratio']:.2f}"
        print(f"| {family} | {speeds} | {ratios} |", flush=True)
    if options.json:
        told = {"environment": describe(), "rows": rows}
        options.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
