"""How long it takes until the work of a killed process goes on, and what is lost: nothing.

    python -m benchmarks.recovery [--kills 10] [--json FILE]

Orchestrator and two instances of each role, each a process; compute is scripted (each forward
sleeps), pictures tell the seed and the steps. Clients come at random (Poisson, open loop), at 0.7
of what the cluster does when it has as many as it can take.

Rows: SIGKILL of an encoder, a denoiser, a decoder; SIGSTOP of a denoiser, which is what a host that
vanishes looks like: only missed heartbeats tell. Seconds are from the signal until a rank of
another process (or of the next life) begins with a request that was in the one that is gone.
Then SIGKILL of the orchestrator, which is started again at once, while clients hand in jobs and ask
again with their Idempotency-Key until they have an answer.

Targets: at most 5 s; no failed request, no other pixel, no lost job, no job twice.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.environment import describe
from tests.support.directed_program import Directions
from tests.support.troupe import STEPS, Book, Troupe, eventually, picture, picture_of, troupe
from transfer import keys
from transfer.messages import SPLIT_ROUTE

TARGET_S = 5.0
LOAD = 0.7
WORK_S = 0.03
AT_ONCE = 24
WARM = 120
ROWS = [*((role, signal.SIGKILL) for role in SPLIT_ROUTE), ("denoiser", signal.SIGSTOP)]


@dataclass
class Load:
    """Requests that come at random; `books` of those under way tell where they are."""

    them: Troupe
    folder: Path
    rate: float
    dice: random.Random
    done: int = 0
    failed: int = 0
    other_pixels: int = 0
    books: dict[int, Book] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as asking:
            number = 0
            while not stop.is_set():
                asking.create_task(self._one(number))
                number += 1
                await asyncio.sleep(self.dice.expovariate(self.rate))

    async def _one(self, number: int) -> None:
        seed, book = number % 200, Book(self.folder / str(number))
        self.books[number] = book
        reply = await self.them.post(seed, Directions(book=str(book.path), seconds=WORK_S).prompt)
        del self.books[number]
        self.done += 1
        if reply.status_code != 200:
            self.failed += 1
        elif picture_of(reply) != picture(seed):
            self.other_pixels += 1

    def at(self, ranks: list[int]) -> list[tuple[Book, int]]:
        """Requests that are computed there, and how far their books are."""
        found = [(book, book.lines) for book in self.books.values()]
        return [(book, len(lines)) for book, lines in found if lines and int(lines[-1][1]) in ranks]


async def capacity(them: Troupe) -> float:
    """Requests per second with many at once."""
    left = WARM

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await them.ask(1, Directions(seconds=WORK_S).prompt)

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return WARM / (time.monotonic() - began)


async def kill_roles(
    them: Troupe, load: Load, role: str, number: signal.Signals, kills: int
) -> list[float]:
    """Seconds until each interrupted request was computed again."""
    seconds: list[float] = []
    for turn in range(kills):
        name = f"{role}-{turn % 2}"
        member = them.members[name]
        ranks = member.ranks
        await _until(lambda ranks=ranks: bool(load.at(ranks)))  # type: ignore[misc]
        hit, at = load.at(ranks), time.monotonic()
        member.signal(number, ranks=number == signal.SIGSTOP)
        for book, lines in hit:
            seconds += [await _moved(book, lines, ranks, at)]
        await them.restart(name)
        await eventually(lambda name=name: them.is_ready(name))  # type: ignore[misc]
    return [each for each in seconds if each > 0]


async def _moved(book: Book, lines: int, ranks: list[int], at: float) -> float:
    """When another process wrote into the book; 0.0: it was over with that rank just before."""

    def elsewhere() -> list[float]:
        later = book.lines[lines:]
        return [float(when) for _, pid, when in later if int(pid) not in ranks]

    await _until(lambda: bool(elsewhere()))
    done_there = book.lines[lines - 1][0] in ("encode", "3", "decode") and _delivered(book, lines)
    return 0.0 if done_there else elsewhere()[0] - at


def _delivered(book: Book, lines: int) -> bool:
    """What comes next is the next place, so nothing was computed again."""
    order = ["encode", "begin", *map(str, range(1, STEPS + 1)), "decode"]
    last, following = book.lines[lines - 1][0], book.lines[lines][0]
    return order.index(following) == order.index(last) + 1


async def _until(holds: Callable[[], bool]) -> None:
    async def held() -> bool:
        return holds()

    await eventually(held)


# ---------------------------------------------------------------- the orchestrator


async def kill_orchestrator(them: Troupe, rate: float, kills: int) -> dict[str, Any]:
    dice, ids, first = random.Random(2), {}, []
    stop = asyncio.Event()

    async def client(number: int) -> None:
        body = {"prompt": Directions(seconds=WORK_S).prompt, "seed": number % 200}
        body["num_inference_steps"] = STEPS
        headers = {"Idempotency-Key": f"job {number}"}
        while number not in ids:
            with contextlib.suppress(httpx.TransportError, KeyError, ValueError):
                reply = await them.client.post("/v1/jobs", json=body, headers=headers)
                ids[number] = reply.json()["id"]
                return
            await asyncio.sleep(0.02)

    async def come() -> None:
        async with asyncio.TaskGroup() as clients:
            number = 0
            while not stop.is_set():
                clients.create_task(client(number))
                number += 1
                await asyncio.sleep(dice.expovariate(rate))

    coming = asyncio.create_task(come())
    for _ in range(kills):
        await asyncio.sleep(2.0)
        completed = set(await _completed(them))
        at = time.monotonic()
        await them.process.restart()
        while not set(await _completed(them)) - completed:
            await asyncio.sleep(0.005)
        first.append(time.monotonic() - at)
    stop.set()
    await coming
    ends = [await _end(them, id) for id in ids.values()]
    listed = await _listed(them)
    return {
        "jobs": len(ids),
        "lost": sum(end != "completed" for end in ends),
        "twice": len(listed) - len(set(ids.values())),
        "p50_s": statistics.median(first),
        "max_s": max(first),
    }


async def _completed(them: Troupe) -> list[str]:
    with contextlib.suppress(httpx.TransportError, ValueError, KeyError):
        reply = await them.client.get("/v1/jobs", params={"limit": 100})
        return [job["id"] for job in reply.json()["data"] if job["status"] == "completed"]
    return []


async def _listed(them: Troupe) -> list[str]:
    found: list[str] = []
    params: dict[str, Any] = {"limit": 100}
    while True:
        page = (await them.client.get("/v1/jobs", params=params)).json()
        found += [job["id"] for job in page["data"]]
        if not page.get("has_more"):
            return found
        params["after"] = found[-1]


async def _end(them: Troupe, id: str) -> str:
    async def over() -> str:
        status = str((await them.client.get(f"/v1/jobs/{id}")).json()["status"])
        return status if status in ("completed", "failed", "cancelled") else ""

    return await eventually(over)


# ---------------------------------------------------------------- all of it


async def measure(kills: int, folder: Path) -> dict[str, Any]:
    names = [f"{role}-{number}" for role in SPLIT_ROUTE for number in range(2)]
    async with troupe(folder / "state", *names, settings={"slots": 16}) as them:
        rate = LOAD * await capacity(them)
        rows = [await roles_row(them, folder, rate, *row, kills) for row in ROWS]
        orchestrator = await kill_orchestrator(them, rate, max(1, kills // 2))
        return {"rate": rate, "rows": rows, "orchestrator": orchestrator}


async def roles_row(
    them: Troupe, folder: Path, rate: float, role: str, number: signal.Signals, kills: int
) -> dict[str, Any]:
    books = folder / f"{role} {number.name}"
    books.mkdir()
    load, stop = Load(them, books, rate, random.Random(1)), asyncio.Event()
    running = asyncio.create_task(load.run(stop))
    doing: Awaitable[list[float]] = kill_roles(them, load, role, number, kills)
    seconds = await doing
    stop.set()
    await running
    await them.comes_home()
    return {
        "row": f"{number.name} {role}",
        "kills": kills,
        "interrupted": len(seconds),
        "p50_s": statistics.median(seconds),
        "max_s": max(seconds),
        "requests": load.done,
        "failed": load.failed,
        "other_pixels": load.other_pixels,
    }


def report(told: dict[str, Any]) -> str:
    lines = [
        f"{describe()}. {told['rate']:.0f} requests/s, {LOAD} of what it can do.\n",
        "| | times | interrupted requests | p50 s | max s | requests | failed | other pixels |",
        "|---|" + "---:|" * 7,
    ]
    for row in told["rows"]:
        cells = (row["kills"], row["interrupted"], f"{row['p50_s']:.2f}", f"{row['max_s']:.2f}")
        counts = (row["requests"], row["failed"], row["other_pixels"])
        lines.append(f"| {row['row']} | {' | '.join(map(str, (*cells, *counts)))} |")
    jobs = told["orchestrator"]
    lines.append(
        f"\nSIGKILL orchestrator: {jobs['jobs']} jobs, lost {jobs['lost']}, twice {jobs['twice']}; "
        f"until the first completion p50 {jobs['p50_s']:.2f} s, max {jobs['max_s']:.2f} s"
    )
    worst = max(row["max_s"] for row in told["rows"])
    clean = not any(row["failed"] or row["other_pixels"] for row in told["rows"])
    reached = worst <= TARGET_S and clean and not (jobs["lost"] or jobs["twice"])
    lines.append(
        f"at most {worst:.2f} s (target {TARGET_S:g}), nothing failed, lost or twice: "
        f"{'reached' if reached else 'missed'}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="of each row (default: 10)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[keys.VARIABLE] = str(keys.make(Path(folder) / "keys").folder)
        told = asyncio.run(measure(options.kills, Path(folder)))
    print(report(told))
    if options.json:
        options.json.write_text(json.dumps({"environment": describe(), **told}, indent=1))


if __name__ == "__main__":
    main()
