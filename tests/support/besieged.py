"""An orchestrator in a process of its own, with honest roles and clients around it that measure."""

import asyncio
import contextlib
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import psutil

from launch.itself import command, environment
from tests.support.scripted_dealer import Dealer
from transfer.made import ImageMade
from transfer.media import MediaServer
from transfer.messages import SPLIT_ROUTE, Media, Welcome, Work

DEADLINE_S = 60.0
PIXELS = b"pixels"
REQUEST = {"prompt": "a red circle", "seed": 1}


@dataclass
class Latencies:
    """Seconds of requests that were answered, each with its picture."""

    seconds: list[float] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        return 1000 * statistics.median(self.seconds)

    @property
    def p99_ms(self) -> float:
        return 1000 * statistics.quantiles(self.seconds, n=100, method="inclusive")[98]

    def __str__(self) -> str:
        count = len(self.seconds)
        return f"{count} requests, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"


class Besieged:
    """The process, seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process, http: str, control: str) -> None:
        self.process = process
        self.control = control
        self.http = http
        self.client = self.another_client()
        self.descriptor_limit = 0
        self._ps = psutil.Process(process.pid)

    def another_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.http, timeout=DEADLINE_S, trust_env=False)

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    @property
    def rss(self) -> int:
        """Bytes of memory that it really has."""
        return int(self._ps.memory_info().rss)

    @property
    def descriptors(self) -> int:
        return int(self._ps.num_fds())

    def limit_descriptors(self, more: int) -> None:
        """It can open so many more than it has now."""
        self.descriptor_limit = limit = self.descriptors + more
        resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE, (limit, limit))

    async def ask(self) -> float:
        """One request through three roles to its picture; the seconds that it took."""
        began = time.perf_counter()
        reply = await self.client.post("/v1/images/generations", json=REQUEST)
        seconds = time.perf_counter() - began
        reply.raise_for_status()
        assert reply.json()["data"][0]["b64_json"]
        return seconds

    async def ask_until(self, ended: "asyncio.Future[int]", least: int = 100) -> Latencies:
        """One request after the other for as long as something lasts, and `least` of them."""
        told = Latencies()
        while not ended.done() or len(told.seconds) < least:
            told.seconds.append(await self.ask())
        return told

    async def idle(self, requests: int) -> Latencies:
        """With nobody else around."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        done.set_result(0)
        return await self.ask_until(done, requests)

    async def counters(self) -> dict[str, float]:
        """What /metrics tells of events and protocol errors, by name."""
        page = (await self.client.get("/metrics")).text
        lines = [line for line in page.splitlines() if line.startswith("triptych_")]
        pairs = [line.rsplit(" ", 1) for line in lines if '="' in line]
        return {name.split('="')[1].rstrip('"}'): float(value) for name, value in pairs}

    async def refused(self) -> int:
        counters = await self.counters()
        return int(sum(n for name, n in counters.items() if name.startswith("handshakes_refused")))


class Decoder(Dealer):
    """Serves a file for each request, as a real one does."""

    def __init__(self, endpoint: str, media: MediaServer, file: int) -> None:
        super().__init__(endpoint, "decoder-0", "decoder")
        self._changes["endpoint"] = media.endpoint  # or it is taken for one that is gone
        self._media, self._file = media, file

    async def work(self, work: Work) -> None:
        self._media.add(work.request, os.dup(self._file))
        made, endpoint = ImageMade(128, 128), self._media.endpoint
        self.picture = Media(work.request, made, "image/png", len(PIXELS), endpoint=endpoint)
        await super().work(work)
        self.heard.clear()  # an endless list of work done


@contextlib.asynccontextmanager
async def besieged() -> AsyncIterator[Besieged]:
    """An orchestrator with an encoder, a denoiser and a decoder that do all work at once."""
    words = ("serve", "--disagg-role", "orchestrator", "--bind", "tcp://127.0.0.1:0")
    process = await asyncio.create_subprocess_exec(
        *command(*words, "--http", "127.0.0.1:0"),
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            ready = json.loads(await process.stdout.readline())
        made = Besieged(process, ready["http"], ready["control"])
        async with made.client, _roles(made.control):
            yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def _roles(control: str) -> AsyncIterator[None]:
    with tempfile.TemporaryFile() as file:
        file.write(PIXELS)
        file.flush()
        async with MediaServer("tcp://127.0.0.1:*") as media:
            made = [Dealer(control, f"{role}-0", role) for role in SPLIT_ROUTE[:2]]
            made.append(Decoder(control, media, file.fileno()))
            tasks = [asyncio.create_task(dealer.run()) for dealer in made]
            try:
                for dealer in made:
                    await dealer.until(Welcome)
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
