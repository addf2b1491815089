"""How soon the caller knows which rank failed, and why; and what that costs everybody else.

    python -m benchmarks.pool_faults [--times 3] [--json FILE]

Orchestrator and two instances, each a process with ranks of its own (`tests.support.plain_rank`,
which compute nothing and need no torch). On rank 1 of the four of the first instance something goes
wrong in each kind of call: it raises, it asks for more memory than there is, it exits, it dies of
SIGKILL, it hangs. Clients ask for pictures all the time, and each has to get the right one.

- told ms: from the fault in the rank (what hangs: from the call, whose `timeout_s` is a second) to
  the answer in the caller's hands. It has to name rank 1, the cause, and where its code raised, the
  traceback with the line; what is told of it wrongly ends the benchmark with an error.
- state: of the instance when that answer is there, and when it has settled.
- lost: requests that got no picture, or a wrong one.

A `generate` goes on elsewhere, so its caller hears nothing of the fault; who is told is measured
with `--max-attempts 1`, where what hangs is given up after `--rank-timeout` (here 3 s).
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.environment import describe
from tests.support.leader_process import leader
from tests.support.orchestrator_process import orchestrator
from tests.support.troupe import eventually, new_client, picture_of
from transfer import keys

RANKS = 4
FAULTY, OTHER = "faulty", "other"
RANK_TIMEOUT_S = 3.0
TIMEOUT_S, PATIENT_S = 1.0, 120.0  # of a call to what hangs, and of any other
CLIENTS = 3
STEPS = 3


@dataclass(frozen=True)
class Kind:
    """A kind of call: the method of `POST /v1/cluster/rpc`, its arguments and its target; `first`
    is called before it. `at`: where in the rank it goes wrong."""

    method: str
    args: dict[str, Any] = field(default_factory=dict)
    target: str = FAULTY
    first: str | None = None

    @property
    def at(self) -> str:
        return "step" if self is GENERATE else self.method


GENERATE = Kind("generate")
KINDS = [
    GENERATE,
    Kind("load_lora", {"name": "ink", "path": "/loras/ink"}, target="monolithic"),
    Kind("sleep", {"level": 2}),
    Kind("wake", first="sleep"),
    Kind("health"),
]
"""To try another method, name it here and teach it to the rank."""

FAULTS = {  # what is told of rank 1: the error's type, and its message
    "raise": ("ValueError", "as {at}.1 says"),
    "memory": ("MemoryError", ""),
    "exit": ("RankDied", "exited with code 5"),
    "kill": ("RankDied", "died of SIGKILL"),
    "hang": ("RankSilent", "did not answer for "),
}
RAISES = ("raise", "memory")
NAMES = {"memory": "out of memory", "kill": "SIGKILL"}


@dataclass(frozen=True)
class Fault:
    """One that has struck: what it was, and what came of it."""

    kind: str
    what: str
    told_ms: float
    told: str
    states: tuple[str, str]
    lost: int


class Stage:
    """An orchestrator and its front door; `folder` has the faults of the first instance."""

    def __init__(self, client: httpx.AsyncClient, control: str, folder: Path) -> None:
        self.client, self.control, self.folder = client, control, folder

    async def rpc(self, method: str, **fields: Any) -> dict[str, Any]:
        body = {"target": FAULTY, "method": method, "timeout_s": PATIENT_S, **fields}
        reply = await self.client.post("/v1/cluster/rpc", json=body)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    async def make(self, seed: int) -> httpx.Response:
        body = {"prompt": "a star", "seed": seed, "num_inference_steps": STEPS, "size": "auto"}
        return await self.client.post("/v1/images/generations", json=body)

    async def state(self, name: str = FAULTY) -> str:
        posts = (await self.client.get("/v1/cluster")).json()["roles"]["monolithic"]
        return next((str(post["state"]) for post in posts if post["name"] == name), "gone")

    async def reaches(self, *states: str) -> str:
        async def there() -> str:
            state = await self.state()
            return state if state in states else ""

        return await eventually(there)

    @contextlib.asynccontextmanager
    async def instance(self, name: str, folder: Path, ranks: int) -> AsyncIterator[None]:
        settings = {"roles": ("monolithic",), "name": name, "ranks": ranks}
        async with leader(
            self.control,
            ranks_are="tests.support.plain_rank",
            model=str(folder),
            rank_timeout_s=RANK_TIMEOUT_S,
            **settings,  # type: ignore[arg-type]
        ):

            async def ready() -> bool:
                return await self.state(name) == "ready"

            await eventually(ready)
            yield

    def fault(self, at: str, what: str) -> Path:
        """The file that makes it happen."""
        self.struck(at).unlink(missing_ok=True)
        path = self.folder / f"{at}.1"
        path.write_text(what)
        return path

    def struck(self, at: str) -> Path:
        return self.folder / f"{at}.struck"

    def struck_at(self, at: str) -> float:
        return float(self.struck(at).read_text())


class Load:
    """Clients that ask all the time, as long as the block lasts; `lost` of `done` requests."""

    def __init__(self, stage: Stage) -> None:
        self.done = self.lost = 0
        self._stage = stage
        self._over = False

    async def __aenter__(self) -> "Load":
        self._clients = [asyncio.create_task(self._client(n)) for n in range(CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.gather(*self._clients)

    async def _client(self, seed: int) -> None:
        while not self._over:
            seed = (seed + CLIENTS) % 200
            reply = await self._stage.make(seed)
            self.done += 1
            self.lost += reply.status_code != 200 or picture_of(reply) != seed + STEPS


# ---------------------------------------------------------------- one fault


async def ask(stage: Stage, kind: Kind, what: str) -> Fault:
    """A call to every rank, of which the second has a fault."""
    if kind.first is not None:
        assert (await stage.rpc(kind.first))["ok"]
    async with Load(stage) as load:
        fault, began = stage.fault(kind.at, what), time.monotonic()
        hangs = what == "hang"
        seconds = {"timeout_s": TIMEOUT_S} if hangs else {}
        told = await stage.rpc(kind.method, target=kind.target, args=kind.args, **seconds)
        known = time.monotonic()
        told_ms = 1e3 * (known - (began if hangs else stage.struck_at(kind.at)))
        state = await stage.state()
        error = check(kind, what, told)
        fault.unlink(missing_ok=True)
        after = await settled(stage, kind)
    return Fault(kind.method, what, told_ms, error, (state, after), load.lost)


def check(kind: Kind, what: str, told: dict[str, Any]) -> str:
    """What is told of rank 1; fails if that is not what has happened."""
    assert told["ok"] is False, told
    instance = told["instances"][FAULTY]
    assert list(instance["ranks"]) == [str(rank) for rank in range(RANKS)], told
    rank = instance["ranks"]["1"]
    assert rank["ok"] is False, told
    verify(kind, what, rank["error"]["type"], rank["error"]["message"])
    traceback = rank["error"]["traceback"] or ""
    assert ("in misbehave" in traceback) == (what in RAISES), told
    blamed = [n for n, x in instance["ranks"].items() if x["error"] and x["error"]["traceback"]]
    assert blamed == (["1"] if what in RAISES else []), told
    return str(rank["error"]["type"])


def verify(kind: Kind, what: str, type: str, message: str) -> None:
    expected, words = FAULTS[what]
    assert type == expected, (kind.method, what, type, message)
    assert message.startswith(words.format(at=kind.at)), (kind.method, what, message)


async def settled(stage: Stage, kind: Kind) -> str:
    """The state in which it stays; afterwards it is ready."""
    state = await stage.reaches("sleeping" if kind.first == "sleep" else "ready")
    if state == "sleeping":
        assert (await stage.rpc("wake"))["ok"]
        await stage.reaches("ready")
    assert (await stage.rpc("health"))["ok"]
    loras = (await stage.rpc("list_loras"))["instances"][FAULTY]["ranks"].values()
    assert [rank["value"]["loras"] for rank in loras] == [[]] * RANKS  # all or none
    return state


async def lose_none(stage: Stage, what: str) -> tuple[tuple[str, str], int]:
    """A fault amid somebody's step, while others can take the request over."""
    async with Load(stage) as load:
        fault = stage.fault("step", what)

        async def has_struck() -> bool:
            return stage.struck("step").exists()

        await eventually(has_struck)
        if what == "hang":
            await stage.reaches("starting")
        state = await stage.state()
        fault.unlink(missing_ok=True)
        after = await stage.reaches("ready")
    return (state, after), load.lost


async def generate(alone: Stage, what: str) -> tuple[float, str]:
    """Milliseconds until a client knows why its request failed, which is tried once; and why."""
    pids = [rank["pid"] for rank in (await _post(alone))["ranks"]]
    fault = alone.fault("step", what)
    reply = await alone.make(1)
    known = time.monotonic()
    fault.unlink(missing_ok=True)
    assert reply.status_code == (504 if what == "silent" else 500), reply.text
    message = str(reply.json()["error"]["message"])
    who = f"rank 1 (pid {pids[1]})"
    type, words = FAULTS[what]
    wanted = f"raised {type}: {words.format(at='step')}" if what in RAISES else words
    assert who in message, message
    assert wanted in message, message
    struck = alone.struck_at("step")
    await alone.reaches("ready")
    assert picture_of(await alone.make(1)) == 1 + STEPS
    return 1e3 * (known - struck), type


async def _post(stage: Stage) -> dict[str, Any]:
    posts = (await stage.client.get("/v1/cluster")).json()["roles"]["monolithic"]
    return dict(next(post for post in posts if post["name"] == FAULTY))


# ---------------------------------------------------------------- all of it


@contextlib.asynccontextmanager
async def staged(folder: Path, **options: Any) -> AsyncIterator[Stage]:
    faults = folder / "faults"
    faults.mkdir(parents=True)
    async with (
        orchestrator(folder / "state", **options) as process,
        new_client(process.http) as client,
    ):
        yield Stage(client, process.control, faults)


async def measure(folder: Path, times: int, kinds: list[Kind]) -> list[Fault]:
    found: list[Fault] = []
    (folder / "none").mkdir()
    async with (
        staged(folder / "two") as stage,
        staged(folder / "alone", max_attempts=1) as alone,
        stage.instance(OTHER, folder / "none", ranks=1),
    ):
        for kind in [kind for kind in kinds for _ in range(times)]:
            # of its own for each round: ranks that die again and again are started ever later
            async with stage.instance(FAULTY, stage.folder, RANKS):
                if kind is GENERATE:
                    async with alone.instance(FAULTY, alone.folder, RANKS):
                        found += [await both(stage, alone, what) for what in FAULTS]
                else:
                    found += [await ask(stage, kind, what) for what in FAULTS]
            await stage.client.delete(f"/v1/cluster/instances/{FAULTY}")
            await alone.client.delete(f"/v1/cluster/instances/{FAULTY}")
    return found


async def both(stage: Stage, alone: Stage, what: str) -> Fault:
    told_ms, told = await generate(alone, what)
    states, lost = await lose_none(stage, what)
    return Fault(GENERATE.method, what, told_ms, told, states, lost)


def table(found: list[Fault]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], list[Fault]] = defaultdict(list)
    for each in found:
        rows[each.kind, each.what].append(each)
    return [
        {
            "call": kind,
            "fault": NAMES.get(what, what),
            "told_ms_p50": statistics.median(each.told_ms for each in every),
            "told_ms_max": max(each.told_ms for each in every),
            "told": every[0].told,
            "state": sorted({" → ".join(dict.fromkeys(each.states)) for each in every}),
            "lost": sum(each.lost for each in every),
        }
        for (kind, what), every in rows.items()
    ]


def report(rows: list[dict[str, Any]], times: int) -> str:
    lines = [
        f"{describe()}. Each {times} times.\n",
        "| call | fault on rank 1 of 4 | told, ms (p50) | max | as | state | requests lost |",
        "|---|---|---:|---:|---|---|---:|",
    ]
    for row in rows:
        numbers = f"{row['told_ms_p50']:.1f} | {row['told_ms_max']:.1f}"
        words = f"{row['told']} | {', '.join(row['state'])} | {row['lost']}"
        lines.append(f"| {row['call']} | {row['fault']} | {numbers} | {words} |")
    lost = sum(row["lost"] for row in rows)
    lines.append(f"\nRequests lost: {lost}, target 0: {'missed' if lost else 'reached'}.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3, help="of each row (default: 3)")
    names = [kind.method for kind in KINDS]
    parser.add_argument("--calls", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if kind.method in options.calls]
    with tempfile.TemporaryDirectory() as folder:
        os.environ[keys.VARIABLE] = str(keys.make(Path(folder) / "keys").folder)
        rows = table(asyncio.run(measure(Path(folder), options.times, kinds)))
    print(report(rows, options.times))
    if options.json:
        told = {"environment": describe(), "times": options.times, "rows": rows}
        options.json.write_text(json.dumps(told, indent=1))
    if any(row["lost"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
