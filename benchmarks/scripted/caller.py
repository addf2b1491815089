"""Asks as fast as it is answered.

    python -m benchmarks.scripted.caller URL CONCURRENCY WARM_S SECONDS

http://HOST:PORT: `POST /v1/images/generations` over CONCURRENCY connections that are kept alive.
The HTTP client is written here, on asyncio's own protocols: it finds the end of the head, the
status and the length, and nothing else. jobs://HOST:PORT: the same, each request with an
idempotency key of its own, so that it is a durable job. feeder://HOST:PORT:
`benchmarks.scripted.feeder`, over one connection.

Says "begin" when it is warm, and then its figures: {"requests", "seconds", "p50_ms", "p99_ms",
"processor_s"}.
"""

import asyncio
import gc
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.scripted.feeder import Ask, told_decoder
from roles.calls import Frames, frame
from transfer.messages import Inputs

BODY = json.dumps({"prompt": "a red circle above a blue square", "seed": 7}).encode()
HEAD = (
    "POST /v1/images/generations HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    "content-length: {length}\r\n"
)
KEYS = map(f"{os.getpid()}-{{}}".format, itertools.count())
INPUTS = Inputs({"prompt": "a red circle above a blue square"}, seed=7)


class Tally:
    """Latencies in seconds, from the moment on that it is `open`."""

    def __init__(self) -> None:
        self.open = False
        self.seconds: list[float] = []

    def add(self, began: float) -> None:
        if self.open:
            self.seconds.append(time.perf_counter() - began)

    def figures(self, seconds: float, processor_s: float) -> dict[str, float]:
        centiles = statistics.quantiles(self.seconds, n=100)
        return {
            "requests": len(self.seconds),
            "seconds": seconds,
            "p50_ms": 1e3 * centiles[49],
            "p99_ms": 1e3 * centiles[98],
            "processor_s": processor_s,
        }


class HttpCaller(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, tally: Tally, host: str, keyed: bool = False) -> None:
        self._tally = tally
        self._head = HEAD.format(host=host, length=len(BODY)).encode()
        self._keyed = keyed
        self._reply = b""
        self._began = 0.0
        self._closed = False
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._reply += data
        head, end, body = self._reply.partition(b"\r\n\r\n")
        if not end:
            return
        _, _, after = head.partition(b"content-length: ")
        if len(body) < int(after[: after.find(b"\r")] if b"\r" in after else after):
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"the reply is not 200:\n{self._reply.decode()}")
        self._tally.add(self._began)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closed:
            sys.exit("the server closed a connection")

    def close(self) -> None:
        self._closed = True
        self._transport.close()

    def _ask(self) -> None:
        self._send()

    def _send(self, due: float | None = None) -> None:
        if not self._closed:
            self._reply = b""
            self._began = due or time.perf_counter()
            key = f"idempotency-key: {next(KEYS)}\r\n".encode() if self._keyed else b""
            self._transport.write(self._head + key + b"\r\n" + BODY)


class FeederCaller(asyncio.Protocol):
    """One connection, `concurrency` requests at a time."""

    def __init__(self, tally: Tally, concurrency: int) -> None:
        self._tally = tally
        self._concurrency = concurrency
        self._frames = Frames()
        self._began: dict[str, float] = {}
        self._ids = map("req_{:024}".format, itertools.count())
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        for _ in range(self._concurrency):
            self._ask()

    def data_received(self, data: bytes) -> None:
        for body in self._frames.feed(data):
            told: Any = told_decoder.decode(body)
            self._tally.add(self._began.pop(told.id))
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        sys.exit("the feeder closed its connection")

    def _ask(self) -> None:
        id = next(self._ids)
        self._began[id] = time.perf_counter()
        self._transport.write(frame(Ask(id, INPUTS)))


async def call(url: str, concurrency: int, warm_s: float, seconds: float) -> dict[str, float]:
    tally, place = Tally(), urlsplit(url)
    make: Callable[[], asyncio.Protocol] = lambda: FeederCaller(tally, concurrency)  # noqa: E731
    if place.scheme != "feeder":
        make = lambda: HttpCaller(tally, place.netloc, place.scheme == "jobs")  # noqa: E731
    loop = asyncio.get_running_loop()
    for _ in range(1 if place.scheme == "feeder" else concurrency):
        await loop.create_connection(make, place.hostname, place.port)
    await asyncio.sleep(warm_s)
    tally.open = True
    print("begin", flush=True)
    began, spent = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    return tally.figures(time.perf_counter() - began, time.process_time() - spent)


if __name__ == "__main__":
    gc.disable()  # the caller is not what is measured
    url, concurrency, warm_s, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(call(url, int(concurrency), float(warm_s), float(seconds)))))
    sys.stdout.flush()
