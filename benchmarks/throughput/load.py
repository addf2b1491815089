"""Clients: so many at all times, or as they come."""

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from benchmarks.throughput.plain import PROMPTS

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Result:
    """`rate`: pictures per second. `taken`: the seconds of each. `made`: how many there were, those
    included that were not measured."""

    rate: float
    taken: list[float]
    made: int


async def _ask(client: httpx.AsyncClient, number: int, steps: int) -> None:
    prompt = PROMPTS[number % len(PROMPTS)]
    body = {"prompt": prompt, "seed": number, "num_inference_steps": steps}
    reply = await client.post("/v1/images/generations", json=body)
    reply.raise_for_status()
    reply.json()["data"][0]["b64_json"]


def _client(url: str, most: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False)


def closed(url: str, clients: int, seconds: float, steps: int) -> Result:
    """So many clients, each of which asks again when it has its picture.

    Each counts its own whole requests from the end of its first one on, and all go on asking until
    the last has counted for `seconds`: so the load is the same for every request that counts, and
    a server that answers in batches is not measured by where a window happens to end.
    """
    return asyncio.run(_closed(url, clients, seconds, steps))


async def _closed(url: str, clients: int, seconds: float, steps: int) -> Result:
    numbers = itertools.count()
    measured = 0

    async def one(client: httpx.AsyncClient) -> list[float]:
        nonlocal measured
        await _ask(client, next(numbers), steps)
        taken: list[float] = []
        while sum(taken) < seconds:
            began = time.perf_counter()
            await _ask(client, next(numbers), steps)
            taken.append(time.perf_counter() - began)
        measured += 1
        while measured < clients:
            await _ask(client, next(numbers), steps)
        return taken

    async with _client(url, clients) as client:
        every = await asyncio.gather(*(one(client) for _ in range(clients)))
    rate = sum(len(taken) / sum(taken) for taken in every)
    return Result(rate, [second for taken in every for second in taken], next(numbers))


def arrivals(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Poisson: when requests come, in seconds from the beginning."""
    chance = random.Random(seed)
    times, now = [], chance.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += chance.expovariate(rate)
    return times


def opened(url: str, times: Sequence[float], steps: int) -> Result:
    """Requests that come at these times, whatever became of those before. Seconds count from when
    a request should have come; the rate, from the first to the last picture's end."""
    return asyncio.run(_opened(url, times, steps))


async def _opened(url: str, times: Sequence[float], steps: int) -> Result:
    taken: list[float] = []
    began = time.perf_counter()

    async def one(client: httpx.AsyncClient, number: int, at: float) -> None:
        await asyncio.sleep(began + at - time.perf_counter())
        await _ask(client, number, steps)
        taken.append(time.perf_counter() - began - at)

    async with _client(url, len(times)) as client:
        await asyncio.gather(*(one(client, number, at) for number, at in enumerate(times)))
    rate = len(times) / (time.perf_counter() - began - times[0])
    return Result(rate, taken, len(times))
