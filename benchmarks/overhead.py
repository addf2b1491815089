"""What the cluster adds to one request: HTTP latency minus the plain pipeline, in the same run.

    python -m benchmarks.overhead [--requests 30] [--steps 20] [--json FILE]

The plain pipeline runs in this process with one thread, in turns with requests to a cluster of
three roles with one thread each, so that a noisy neighbour meets both. Prints the medians and where
the time goes.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import httpx
import torch
from diffusers import DiffusionPipeline

from benchmarks.environment import describe
from launch import Cluster

MODEL = Path(__file__).resolve().parent.parent / "launch" / "demo" / "model"
PROMPT = "a red circle above a blue square"
TARGET_MS = 30.0


def plain_seconds(pipeline: DiffusionPipeline, steps: int, seed: int) -> float:
    began = time.perf_counter()
    generator = torch.Generator("cpu").manual_seed(seed)
    pipeline(PROMPT, num_inference_steps=steps, generator=generator)
    return time.perf_counter() - began


def cluster_seconds(client: httpx.Client, steps: int, seed: int) -> tuple[float, dict[str, float]]:
    body = {
        "prompt": PROMPT,
        "num_inference_steps": steps,
        "seed": seed,
        "response_format": "b64_json",
    }
    began = time.perf_counter()
    reply = client.post("/v1/images/generations", json=body)
    seconds = time.perf_counter() - began
    reply.raise_for_status()
    return seconds, json.loads(reply.headers["x-triptych-timings"])


def measure(requests: int, steps: int) -> dict[str, float]:
    """Medians in milliseconds: of both, of their difference, and of each part of the cluster's."""
    torch.set_num_threads(1)
    pipeline = DiffusionPipeline.from_pretrained(MODEL)
    pipeline.set_progress_bar_config(disable=True)
    rows: list[dict[str, float]] = []
    with (
        Cluster(model=MODEL, encoders=1, denoisers=1, decoders=1, threads=1) as cluster,
        httpx.Client(base_url=cluster.url, timeout=60) as client,
    ):
        for seed in range(-3, requests):  # three rounds to warm up
            plain = plain_seconds(pipeline, steps, seed + 3)
            total, parts = cluster_seconds(client, steps, seed + 3)
            if seed >= 0:
                parts["http_s"] = total - parts["total_s"]
                row = {"plain_s": plain, "cluster_s": total, "difference_s": total - plain}
                rows.append(row | {name: value for name, value in parts.items()})
    names = rows[0].keys()
    return {f"{n[:-2]}_ms": 1000 * statistics.median(row[n] for row in rows) for n in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    medians = measure(options.requests, options.steps)
    print(f"{describe()}; {options.requests} requests of {options.steps} steps, one at a time\n")
    print("| p50 of | ms |\n|---|---|")
    for name, value in medians.items():
        print(f"| {name.removesuffix('_ms')} | {value:.1f} |")
    verdict = "reached" if medians["difference_ms"] <= TARGET_MS else "missed"
    print(f"\ndifference: {medians['difference_ms']:.1f} ms (target {TARGET_MS:.0f}): {verdict}")
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), "p50": medians}, indent=1))


if __name__ == "__main__":
    main()
