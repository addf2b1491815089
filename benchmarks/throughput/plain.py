"""The plain pipeline in processes of its own: what a user would write without us.

    python -m benchmarks.throughput.plain THREADS

For each line `run SECONDS` on standard input it calls the pipeline in a loop for so long, and
answers with a JSON list of the seconds that each call took. THREADS 0: torch's own default.
"""

import json
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

PROMPTS = (
    "a red circle above a blue square",
    "two green stars",
    "a small orange star",
    "a yellow heart",
)


def load(threads: int) -> Any:
    """The pipeline of the demo model, in this process."""
    import torch
    from diffusers import DiffusionPipeline

    from benchmarks.overhead import MODEL

    if threads:
        torch.set_num_threads(threads)
    pipeline = DiffusionPipeline.from_pretrained(MODEL)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: Any, prompts: list[str], seeds: list[int], steps: int) -> list[Any]:
    """Pictures of these prompts, in one call."""
    import torch

    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    pictures: list[Any] = pipeline(prompts, num_inference_steps=steps, generator=generators).images
    return pictures


class Loops:
    """Processes that call the pipeline in a loop, all at the same time."""

    def __init__(self, count: int, threads: int, steps: int) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", __name__, str(threads), str(steps)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def __enter__(self) -> Self:
        for process in self._processes:
            assert process.stdout
            process.stdout.readline()  # it has warmed up
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def run(self, seconds: float) -> tuple[float, list[float]]:
        """Pictures per second of all processes together, and the seconds of every call."""
        for process in self._processes:
            assert process.stdin
            process.stdin.write(f"run {seconds}\n")
            process.stdin.flush()
        rate, taken = 0.0, []
        for process in self._processes:
            assert process.stdout
            each = json.loads(process.stdout.readline())
            rate += len(each) / sum(each)
            taken += each
        return rate, taken


def main(threads: int, steps: int) -> None:
    pipeline = load(threads)
    for _ in range(3):
        draw(pipeline, [PROMPTS[0]], [0], steps)
    print("ready", flush=True)
    number = 0
    for line in sys.stdin:
        until = time.perf_counter() + float(line.split()[1])
        taken: list[float] = []
        while (began := time.perf_counter()) < until or not taken:
            draw(pipeline, [PROMPTS[number % len(PROMPTS)]], [number], steps)
            taken.append(time.perf_counter() - began)
            number += 1
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
