"""Which layer of a process its processor time goes to, by sampling its main thread.

A timer of processor time interrupts the thread every two milliseconds; the innermost frame that
belongs to a layer counts, so what the standard library does for a layer is that layer's.
"""

import json
import os
import signal
import sys
import threading
from collections import Counter
from types import FrameType

EVERY_S = 0.002
LAYERS = {  # a part of the file's path: the layer
    "/orchestrator/core/": "core",
    "/transfer/codec": "codec",
    "/site-packages/zmq/": "zmq",
    "/transfer/media": "media channel",
    "/orchestrator/control": "control loop",
    "/orchestrator/service": "service",
    "/orchestrator/metrics": "metrics",
    "/site-packages/prometheus_client/": "metrics",
    "/orchestrator/http/": "front door",
    "/site-packages/fastapi/": "FastAPI, Starlette",
    "/site-packages/starlette/": "FastAPI, Starlette",
    "/site-packages/uvicorn/": "uvicorn, httptools",
    "/benchmarks/scripted/feeder": "feeder",
}
REST = "event loop"


class Sampler:
    """`start` in the main thread, and it counts until the process ends."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._known: dict[str, str | None] = {}

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def take(self) -> dict[str, int]:
        """Samples of each layer since the last time."""
        taken, self._counts = self._counts, Counter()
        return dict(taken)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        while frame is not None and frame.f_code.co_name != "<module>":
            if layer := self._layer(frame.f_code.co_filename):
                self._counts[layer] += 1
                return
            frame = frame.f_back
        self._counts[REST] += 1

    def _layer(self, file: str) -> str | None:
        if file not in self._known:
            self._known[file] = next((x for part, x in LAYERS.items() if part in file), None)
        return self._known[file]


def follow_input() -> None:
    """For a process of a benchmark: samples it, answers each line of its standard input with the
    samples as JSON, and ends it with its standard input. To be called in the main thread."""
    sampler = Sampler()
    sampler.start()
    threading.Thread(target=_follow, args=(sampler,), daemon=True).start()


def _follow(sampler: Sampler) -> None:
    for _ in sys.stdin:
        print(json.dumps(sampler.take()), flush=True)
    os._exit(0)
