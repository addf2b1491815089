"""The plain pipeline behind a minimal FastAPI server.

    python -m benchmarks.throughput.plain_server lock|batch PORT

*lock*: one request at a time. *batch*: a call of the pipeline for up to 8 that wait; who comes
meanwhile waits for the next call. Both with torch's default threads, and a PNG as reply.
"""

import asyncio
import base64
import io
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx
import uvicorn
from fastapi import FastAPI

from benchmarks.throughput.plain import PROMPTS, draw, load
from launch.addresses import free_port

MOST = 8
START_S = 120.0


class Asked(NamedTuple):
    prompt: str
    seed: int
    steps: int
    picture: "Future[Any]"


class Batches:
    """A thread that calls the pipeline for whatever waits, `MOST` requests at a time."""

    def __init__(self, pipeline: Any, most: int) -> None:
        self._pipeline = pipeline
        self._most = most
        self._queue: SimpleQueue[Asked] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    async def picture(self, prompt: str, seed: int, steps: int) -> Any:
        asked = Asked(prompt, seed, steps, Future())
        self._queue.put(asked)
        return await asyncio.wrap_future(asked.picture)

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < self._most and not self._queue.empty():
                batch.append(self._queue.get())
            prompts, seeds = [a.prompt for a in batch], [a.seed for a in batch]
            pictures = draw(self._pipeline, prompts, seeds, batch[0].steps)
            for asked, picture in zip(batch, pictures, strict=True):
                asked.picture.set_result(picture)


def application(pipeline: Any, most: int) -> FastAPI:
    app, batches = FastAPI(), Batches(pipeline, most)

    @app.post("/v1/images/generations")
    async def generate(body: dict[str, Any]) -> dict[str, Any]:
        picture = await batches.picture(body["prompt"], body["seed"], body["num_inference_steps"])
        file = io.BytesIO()
        picture.save(file, format="PNG")
        return {"data": [{"b64_json": base64.b64encode(file.getvalue()).decode()}]}

    return app


class PlainServer:
    """Such a server as a process; `url` is where it listens."""

    def __init__(self, kind: str) -> None:
        port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen([sys.executable, "-m", __name__, kind, str(port)])

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                httpx.get(self.url)
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return self
        self.__exit__(None, None, None)
        raise SystemExit("the plain server did not start")

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


def main(kind: str, port: int) -> None:
    pipeline = load(0)
    most = MOST if kind == "batch" else 1
    for size in {1, most}:
        for _ in range(2):
            draw(pipeline, [PROMPTS[0]] * size, [0] * size, 4)
    uvicorn.run(application(pipeline, most), host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
