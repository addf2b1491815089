"""Many adapters, each of which few requests have on: served, and with the plain pipeline.

    python -m benchmarks.lora_churn [--family zimage] [--adapters 50] [--requests 500] [--steps 4]
        [--json FILE]

Requests come one after the other, each with one adapter on, drawn from a Zipf distribution (the
n-th is asked for 1/n times as often as the first). *plain*: a diffusers pipeline that has one
adapter at a time, and loads another when a request wants it. *served*: the three roles in this
process, no sockets; the denoiser has loaded all of them before, which counts; *alone*: one request
at a time, each forward its own; *shared*: eight at a time, of which those with the same adapter may
share forwards. One thread; seconds of the processor, so that other processes matter little.

Every picture of *alone* is compared with the plain pipeline's.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from benchmarks.batching import Denoiser, Model
from benchmarks.environment import describe
from roles.leader.batch_costs import BatchCosts
from roles.split.loading import load
from roles.split.program import Call, Program
from roles.split.weights.adapted import quietly
from roles.split.weights.adapters import LOCAL
from tests.support import pipelines
from tests.support.loras import build_lora
from tests.support.splitting import arrays, same
from transfer.messages import Inputs, Lora

RUNNING = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """One request: the name of its adapter, and its seed."""

    adapter: str
    seed: int


@dataclass
class Spent:
    """Seconds of the processor, by what they were spent on."""

    load_s: float = 0.0
    encode_s: float = 0.0
    denoise_s: float = 0.0
    decode_s: float = 0.0

    def add(self, encode_s: float, denoise_s: float, decode_s: float) -> None:
        self.encode_s += encode_s
        self.denoise_s += denoise_s
        self.decode_s += decode_s

    @property
    def total_s(self) -> float:
        return self.load_s + self.encode_s + self.denoise_s + self.decode_s


def drawn(names: list[str], count: int) -> list[Asked]:
    dice = random.Random(1)
    shares = [1 / rank for rank in range(1, len(names) + 1)]
    return [Asked(name, seed) for seed, name in enumerate(dice.choices(names, shares, k=count))]


def built(model: Path, folder: Path, names: list[str]) -> dict[str, str]:
    """The adapters' files: the same layers, other numbers."""
    (first,) = build_lora(model, folder / "lora", 0).glob("*.safetensors")
    layers, files = load_file(first), {}
    for seed, name in enumerate(names):
        generator = torch.Generator().manual_seed(seed)
        made = {key: torch.randn(x.shape, generator=generator) / 2 for key, x in layers.items()}
        files[name] = str(folder / f"{name}.safetensors")
        save_file(made, files[name], {"format": "pt"})
    return files


def timed(work: Callable[..., T], *args: Any) -> tuple[T, float]:
    began = time.thread_time()
    return work(*args), time.thread_time() - began


def plain(
    path: Path, files: dict[str, str], asked: Iterable[Asked], params: dict[str, Any]
) -> tuple[list[Any], Spent]:
    """The pictures, and what they took; loading is that of adapters."""
    pipeline = DiffusionPipeline.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    worn, pictures, spent = "", [], Spent()

    def wear(name: str) -> None:
        with quietly():
            if worn:
                pipeline.unload_lora_weights()
            pipeline.load_lora_weights(files[name], adapter_name=name, **LOCAL)

    def make(seed: int) -> Any:
        generator = torch.Generator("cpu").manual_seed(seed)
        return [np.asarray(each) for each in pipeline(**params, generator=generator).images]

    for each in asked:
        if each.adapter != worn:
            spent.load_s += timed(wear, each.adapter)[1]
            worn = each.adapter
        images, seconds = timed(make, each.seed)
        spent.denoise_s += seconds
        pictures.append(images)
    return pictures, spent


class Served:
    """The three roles, with all adapters."""

    def __init__(self, path: Path, files: dict[str, str]) -> None:
        self._program: Program = load(path, ["encoder", "denoiser", "decoder"])
        adapters = self._program.adapters
        assert adapters is not None
        self._load_s = sum(timed(adapters.load, *each)[1] for each in files.items())

    def alone(self, asked: Iterable[Asked], params: dict[str, Any]) -> tuple[list[Any], Spent]:
        pictures, spent = [], Spent(self._load_s)
        for each in asked:
            call = _call(each, params, exact=True)
            payload, encode_s = timed(self._program.encode, call)
            latents, denoise_s = timed(self._denoised, call, payload)
            samples, decode_s = timed(self._program.decode, call, latents)
            spent.add(encode_s, denoise_s, decode_s)
            pictures.append(arrays(samples))
        return pictures, spent

    def _denoised(self, call: Call, payload: Any) -> Any:
        denoising = self._program.denoise(call, payload)
        denoising.start()
        while not denoising.done:
            denoising.resume([each.run() for each in denoising.pending])
        return denoising.result()

    def shared(self, asked: list[Asked], params: dict[str, Any], alone: Spent) -> Spent:
        """Both ends are those of `alone`. As long as any waits, eight are under way."""
        calls = [_call(each, params) for each in asked]
        model = Model(self._program, [(call, self._program.encode(call)) for call in calls])
        denoiser = Denoiser(model, RUNNING, BatchCosts())

        def run() -> None:
            while denoiser.finished < len(asked):
                denoiser.turn()

        seconds = timed(run)[1]
        return Spent(alone.load_s, alone.encode_s, seconds, alone.decode_s)


def _call(asked: Asked, params: dict[str, Any], exact: bool = False) -> Call:
    return Call("r", Inputs(params, asked.seed, exact=exact, loras=[Lora(asked.adapter)]))


def measured(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = pipelines.build(options.family, Path(folder) / options.family)
        params = {**pipelines.PARAMS[options.family], "num_inference_steps": options.steps}
        names = [f"a{number}" for number in range(options.adapters)]
        files = built(path, Path(folder), names)
        asked = drawn(names, options.requests)
        expected, spent = plain(path, files, asked, params)
        served = Served(path, files)
        pictures, alone = served.alone(asked, params)
        equal = sum(same(a, b) for a, b in zip(expected, pictures, strict=True))
        rows = {"plain": spent, "alone": alone, "shared": served.shared(asked, params, alone)}
    switches = sum(a.adapter != b.adapter for a, b in pairwise(asked))
    return {"equal": equal, "switches": switches, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="zimage", help="of tests.support.pipelines")
    parser.add_argument("--adapters", type=int, default=50)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    found = measured(options)
    what = f"{options.family}, {options.adapters} adapters, {options.requests} requests"
    print(
        f"{describe()}; {what} of {options.steps} steps, {found['switches']} changes of adapter\n"
    )
    print("| | requests/s | ratio | adapters s | encoding s | denoising s | decoding s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    base = found["rows"]["plain"].total_s
    for name, spent in found["rows"].items():
        ends = f"{spent.encode_s:.1f}", f"{spent.decode_s:.1f}"
        first, last = ("in all", "in all") if name == "plain" else ends
        pace, ratio = options.requests / spent.total_s, base / spent.total_s
        seconds = f"{spent.load_s:.1f} | {first} | {spent.denoise_s:.1f} | {last}"
        print(f"| {name} | {pace:.2f} | {ratio:.2f} | {seconds} |")
    print(f"\n{found['equal']} of {options.requests} pictures bit-identical.")
    if options.json:
        rows = {name: vars(spent) for name, spent in found["rows"].items()}
        told = {"environment": describe(), "options": what, **found, "rows": rows}
        options.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
