"""Clients that come at random, whatever becomes of those before (Poisson, open loop).

    python -m benchmarks.scripted.crowd http://HOST:PORT RATE SECONDS

Each asks once for a picture, over a connection that an earlier one has done with, if there is any.
Its time begins when it was due, so that a crowd that is itself late shows. Says, when everybody has
an answer: {"asked", "in_time" (how many had a picture before SECONDS were over), "statuses":
{STATUS: count}, "with_retry_after", "p50_ms", "p99_ms" (of those that got a picture), "late_ms"
(p99 of how late they came)}.
"""

import asyncio
import collections
import gc
import json
import random
import statistics
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.scripted.caller import BODY, HEAD

PATIENCE_S = 60.0  # for the last answers
SEED = 1


class Crowd:
    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self.host, self.port = place.hostname, place.port
        self.request = HEAD.format(host=place.netloc, length=len(BODY)).encode() + b"\r\n" + BODY
        self.idle: list[Client] = []
        self.statuses: collections.Counter[str] = collections.Counter()
        self.with_retry_after = 0
        self.seconds: list[float] = []
        self.late: list[float] = []
        self.in_time, self.over_at = 0, 0.0

    async def come(self, rate: float, seconds: float) -> dict[str, Any]:
        dice, began = random.Random(SEED), time.perf_counter()
        due, asking = began, set()
        self.over_at = began + seconds
        while (due := due + dice.expovariate(rate)) < self.over_at:
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            task = asyncio.create_task(self._ask(due))
            asking.add(task)
            task.add_done_callback(asking.discard)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*asking)
        return self._figures()

    async def _ask(self, due: float) -> None:
        self.late.append(time.perf_counter() - due)
        if not self.idle:
            loop = asyncio.get_running_loop()
            _, client = await loop.create_connection(Client, self.host, self.port)
        else:
            client = self.idle.pop()
        status, head = await client.ask(self.request)
        if not client.closed:
            self.idle.append(client)
        self.statuses[status] += 1
        if status == "200":
            now = time.perf_counter()
            self.seconds.append(now - due)
            self.in_time += now < self.over_at
        elif b"\r\nretry-after: " in head:
            self.with_retry_after += 1

    def _figures(self) -> dict[str, Any]:
        done = statistics.quantiles(self.seconds, n=100)
        return {
            "asked": self.statuses.total(),
            "in_time": self.in_time,
            "statuses": self.statuses,
            "with_retry_after": self.with_retry_after,
            "p50_ms": 1e3 * done[49],
            "p99_ms": 1e3 * done[98],
            "late_ms": 1e3 * statistics.quantiles(self.late, n=100)[98],
        }


class Client(asyncio.Protocol):
    """One connection. It finds the end of the head, the status and the length, and no more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.closed = False
        self._transport: Any = transport

    def ask(self, request: bytes) -> "asyncio.Future[tuple[str, bytes]]":
        self._reply = b""
        self._answer: asyncio.Future[tuple[str, bytes]] = asyncio.Future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._reply += data
        head, end, body = self._reply.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if end and len(body) >= int(length):
            self._answer.set_result((head[9:12].decode(), head.lower() + end))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if not self._answer.done():
            self._answer.set_result(("broken", b""))


async def main(url: str, rate: float, seconds: float) -> dict[str, Any]:
    return await Crowd(url).come(rate, seconds)


if __name__ == "__main__":
    gc.disable()  # the crowd is not what is measured
    print(json.dumps(uvloop.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))))
