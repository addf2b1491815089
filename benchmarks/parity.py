"""The cluster's pictures against the plain pipeline's, bit for bit, over both backends.

    python -m benchmarks.parity [--families demo,flux,…] [--dtypes float32,bfloat16]
                                [--backends shm,mooncake] [--seeds 3] [--json FILE]

Every row starts a cluster of three real roles on a tiny random pipeline (or the demo model), asks
for `--seeds` pictures over HTTP with `exact`, and compares the decoded PNG (for video: lossless
WebP) with what the plain pipeline gives in this process with the same number of threads. Exits
with 1 if a single pixel differs.
"""

import argparse
import base64
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageSequence

from benchmarks.environment import describe
from benchmarks.overhead import MODEL
from launch import Cluster
from tests.support import pipelines

FAMILIES = ("demo", "flux", "qwenimage", "sd15", "sdxl", "sd3", "wan", "ltx", "zimage")
# what the front door knows; what is left out keeps the pipeline's default, on both sides
FIELDS = (
    "prompt",
    "negative_prompt",
    "height",
    "width",
    "num_frames",
    "num_inference_steps",
    "guidance_scale",
    "true_cfg_scale",
)
LOSSLESS = {"output_format": "webp", "output_compression": 100}
DEMO_CALL = {"prompt": "a red circle above a blue square", "num_inference_steps": 8}


def model_of(family: str, dtype: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The model's folder and the request that is put to it."""
    if family == "demo":
        return MODEL, DEMO_CALL
    path = pipelines.build(family, folder / f"{family}-{dtype}", getattr(torch, dtype))
    call = pipelines.PARAMS[family]
    return path, {name: value for name, value in call.items() if name in FIELDS}


def plain_frames(model: Path, dtype: str, call: dict[str, Any], seeds: range) -> list[np.ndarray]:
    """What the plain pipeline gives: `[frames, height, width, 3]` in uint8 for each seed."""
    pipeline = DiffusionPipeline.from_pretrained(model, dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    return [_as_frames(pipeline(**call, generator=_generator(seed))) for seed in seeds]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def _as_frames(output: Any) -> np.ndarray:
    if hasattr(output, "images"):
        return np.stack([np.asarray(output.images[0].convert("RGB"))])
    if isinstance(output.frames[0][0], Image.Image):
        return np.stack([np.asarray(frame.convert("RGB")) for frame in output.frames[0]])
    # as diffusers' own VideoProcessor makes 8 bit of float frames
    return (np.asarray(output.frames[0]) * 255).round().astype(np.uint8)


def served_frames(client: httpx.Client, call: dict[str, Any], seed: int) -> np.ndarray:
    body = {name: value for name, value in call.items() if name not in ("height", "width")}
    if "height" in call:
        body["size"] = f"{call['width']}x{call['height']}"
    if "num_frames" in call:
        body |= LOSSLESS
    reply = client.post("/v1/images/generations", json=body | {"seed": seed, "exact": True})
    if reply.is_error:
        raise SystemExit(f"parity: {reply.status_code} {reply.text}")
    picture = Image.open(io.BytesIO(base64.b64decode(reply.json()["data"][0]["b64_json"])))
    return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(picture)])


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    seeds = range(options.seeds)
    with tempfile.TemporaryDirectory() as folder:
        for family in options.families:
            for dtype in options.dtypes:
                model, call = model_of(family, dtype, Path(folder))
                expected = plain_frames(model, dtype, call, seeds)
                for backend in options.backends:
                    given = cluster_frames(model, dtype, backend, call, seeds)
                    yield compare(expected, given) | {
                        "family": family,
                        "dtype": dtype,
                        "backend": backend,
                    }


def cluster_frames(
    model: Path, dtype: str, backend: str, call: dict[str, Any], seeds: range
) -> list[np.ndarray]:
    counts = {"encoders": 1, "denoisers": 1, "decoders": 1, "threads": 1}
    with (
        Cluster(model=model, dtype=dtype, transfer=backend, **counts) as cluster,
        httpx.Client(base_url=cluster.url, timeout=300) as client,
    ):
        return [served_frames(client, call, seed) for seed in seeds]


def compare(expected: list[np.ndarray], given: list[np.ndarray]) -> dict[str, Any]:
    pairs = list(zip(expected, given, strict=True))
    same = sum(a.shape == b.shape and np.array_equal(a, b) for a, b in pairs)
    return {"exact": same, "of": len(pairs), "shape": list(expected[0].shape)}


def _names(text: str) -> list[str]:
    return text.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", type=_names, default=list(FAMILIES))
    parser.add_argument("--dtypes", type=_names, default=["float32", "bfloat16"])
    parser.add_argument("--backends", type=_names, default=["shm", "mooncake"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe()}; 1 thread; {options.seeds} seeds each\n")
    print("| family | dtype | backend | frames x height x width | exact |\n|---|---|---|---|---|")
    results = []
    for row in rows(options):
        results.append(row)
        shape = " x ".join(str(number) for number in row["shape"][:3])
        share = f"{row['exact']} of {row['of']}"
        where = f"{row['family']} | {row['dtype']} | {row['backend']}"
        print(f"| {where} | {shape} | {share} |", flush=True)
    exact = sum(row["exact"] == row["of"] for row in results)
    print(f"\n{exact} of {len(results)} rows bit-identical")
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), "rows": results}, indent=1))
    sys.exit(exact != len(results))


if __name__ == "__main__":
    main()
