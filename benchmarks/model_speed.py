"""What each switch of the model brings and costs, against the plain pipeline in the same run.

    python -m benchmarks.model_speed [--model demo] [--device cpu] [--dtype auto] [--steps 20]
        [--size WxH] [--threads 1] [--rounds 3] [--switches compile,…] [--json FILE]

Encoder, denoiser and decoder in this process, no sockets: seconds per step of the loop, warm-up
seconds, and how far the pixels are from those of the plain pipeline with the same seed (the largest
difference of 8-bit levels, and the PSNR in dB). The plain pipeline and the row's denoiser take
turns, so that a noisy neighbour meets both.

`--model` is demo; a name of `tests.support.pipelines` (tiny random models); or sdxl-full,
flux-full, wan-full: transformers of the real size with random weights, inside of tiny pipelines.
Those want a GPU, room on the disk for their weights, and `--dtype bfloat16`. With random weights
the pixels are noise, and step caches skip other steps than with real ones.
"""

import argparse
import gc
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from benchmarks.environment import describe
from benchmarks.overhead import MODEL
from roles.split.loading import load
from roles.split.program import Call, ModelError, Program, Unavailable
from tests.support import pipelines
from tests.support.splitting import arrays
from transfer.messages import Inputs, Speed
from transfer.speed import parse_step_cache

SWITCHES = (
    "none",
    "compile",
    "attention-backend=_native_math",
    "quantize=int8",
    "step-cache=first_block:0.05",
    "step-cache=first_block:0.2",
    "step-cache=taylorseer:3",
    "step-cache=pyramid:2",
    "compile+step-cache=first_block:0.2",
)
SEED = 1
# what makes the tiny transformers as large as the real ones
FULL: dict[str, dict[str, Any]] = {
    "flux": {
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "axes_dims_rope": (16, 56, 56),
    },
    "wan": {
        "num_layers": 40,
        "attention_head_dim": 128,
        "num_attention_heads": 40,
        "ffn_dim": 13824,
        "rope_max_seq_len": 1024,
    },
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "layers_per_block": 2,
        "norm_num_groups": 32,
    },
}


def build(model: str, folder: Path, device: str, dtype: torch.dtype) -> tuple[Path, dict[str, Any]]:
    """The model's folder, and what is asked of it."""
    if model == "demo":
        return MODEL, {"prompt": "a red circle above a blue square"}
    family = model.removesuffix("-full")
    if family == model:
        return pipelines.build(family, folder / family), dict(pipelines.PARAMS[family])
    torch.manual_seed(0)
    pipeline: Any = pipelines.builder(family)()
    name = "unet" if hasattr(pipeline, "unet") else "transformer"
    tiny = getattr(pipeline, name)
    with torch.device(device):
        setattr(pipeline, name, type(tiny).from_config({**tiny.config, **FULL[family]}).to(dtype))
    pipeline.save_pretrained(folder / model)
    return folder / model, dict(pipelines.PARAMS[family])


class Plain:
    """The pipeline as a diffusers user has it."""

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        dtype = {} if options.dtype == "auto" else {"dtype": getattr(torch, options.dtype)}
        self._pipeline = DiffusionPipeline.from_pretrained(path, **dtype).to(options.device)
        self._pipeline.set_progress_bar_config(disable=True)

    def run(self, params: dict[str, Any]) -> tuple[list[np.ndarray], float]:
        """Its pictures, and the seconds of a step."""
        at: list[float] = []

        def note(_: Any, __: int, ___: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            settle()
            at.append(time.perf_counter())
            return kwargs

        generator = torch.Generator("cpu").manual_seed(SEED)
        output = self._pipeline(**params, generator=generator, callback_on_step_end=note)
        found = output.images if hasattr(output, "images") else output.frames[0]
        return [levels(each) for each in found], _step_seconds(at)


class Served:
    """The three roles, the denoiser with its switches."""

    def __init__(self, path: Path, options: argparse.Namespace, speed: Speed) -> None:
        roles: dict[str, Program] = {}
        for role in ("encoder", "decoder"):
            roles[role] = load(path, [role], options.dtype, options.device)  # type: ignore[list-item]
        self._roles = roles
        self._denoiser = load(path, ["denoiser"], options.dtype, options.device, speed)

    def warm(self) -> float:
        began = time.perf_counter()
        self._denoiser.warm()
        settle()
        return time.perf_counter() - began

    def run(self, params: dict[str, Any]) -> tuple[list[np.ndarray], float]:
        call = Call("r", Inputs(params, SEED))
        denoising = self._denoiser.denoise(call, self._roles["encoder"].encode(call))
        denoising.start()
        at: list[float] = []
        while denoising.pending:
            before = denoising.step
            denoising.resume([each.run() for each in denoising.pending])
            if denoising.step > before or denoising.done:
                settle()
                at.append(time.perf_counter())
        samples = self._roles["decoder"].decode(call, denoising.result())
        return [levels(each) for each in arrays(samples)], _step_seconds(at)


def settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def levels(picture: Any) -> np.ndarray:
    """8-bit levels, as whole numbers that can be subtracted."""
    found = np.asarray(picture)
    if found.dtype != np.uint8:
        found = (found * 255).round()
    return found.astype(np.int32)


def _step_seconds(at: list[float]) -> float:
    """The mean of all steps but the first, which begins before anything is timed."""
    return (at[-1] - at[0]) / (len(at) - 1)


def speed_of(switches: str, dtype: str) -> Speed:
    """`compile+step-cache=first_block:0.2` as the flags say it."""
    given = dict(each.partition("=")[::2] for each in switches.split("+"))
    cache = given.get("step-cache")
    return Speed(
        dtype,
        "compile" in given,
        given.get("attention-backend"),
        given.get("quantize"),
        parse_step_cache(cache) if cache else None,
    )


def apart(one: list[np.ndarray], other: list[np.ndarray]) -> tuple[int, float]:
    """The largest difference in levels, and the PSNR in dB (infinite for the same pixels)."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    most = max(int(np.abs(each).max()) for each in differences)
    mean = float(np.mean([np.mean(each.astype(float) ** 2) for each in differences]))
    return most, math.inf if mean == 0 else 10 * math.log10(255**2 / mean)


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    dtype = torch.float32 if options.dtype == "auto" else getattr(torch, options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        path, params = build(options.model, Path(folder), options.device, dtype)
        params["num_inference_steps"] = options.steps
        if options.size:
            params["width"], params["height"] = map(int, options.size.split("x"))
        plain = Plain(path, options)
        expected, _ = plain.run(params)
        for switches in options.switches:
            yield {"switches": switches, **row(path, options, switches, plain, expected, params)}
            gc.collect()


def row(
    path: Path,
    options: argparse.Namespace,
    switches: str,
    plain: Plain,
    expected: list[np.ndarray],
    params: dict[str, Any],
) -> dict[str, Any]:
    try:
        served = Served(path, options, speed_of(switches, options.dtype))
        warm_s = served.warm()
        given, _ = served.run(params)
    except (ModelError, Unavailable) as error:
        return {"refused": str(error)}
    pairs = [(plain.run(params)[1], served.run(params)[1]) for _ in range(options.rounds)]
    plain_s, step_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    most, psnr = apart(expected, given)
    return {
        "plain_s": plain_s,
        "step_s": step_s,
        "gain": plain_s / step_s,
        "warm_s": warm_s,
        "levels": most,
        "psnr": psnr,
    }


def line(row: dict[str, Any]) -> str:
    if "refused" in row:
        return f"| {row['switches']} | {row['refused']} | | | | | |"
    seconds = f"{1000 * row['plain_s']:.1f} | {1000 * row['step_s']:.1f} | {row['gain']:.2f}"
    pixels = f"{row['levels']} | {row['psnr']:.1f}"
    return f"| {row['switches']} | {seconds} | {row['warm_s']:.1f} | {pixels} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", metavar="WxH", help="pixels; default: the model's")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--switches", type=lambda text: text.split(","), default=list(SWITCHES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    what = f"{options.model}, {options.dtype} on {options.device}, {options.threads} threads"
    print(f"{describe()}; {what}, {options.steps} steps\n")
    print("| switches | plain, ms/step | ms/step | gain | warm-up s | levels apart | PSNR dB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    found = []
    for each in rows(options):
        found.append(each)
        print(line(each), flush=True)
    if options.json:
        told = {"environment": describe(), "options": what, "rows": found}
        options.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
