"""Many requests among random kills; then everything has to be exactly as it was before.

    python -m tests.support.leak_hunt [--requests 20000] [--seed 1]

A whole cluster of real processes with scripted compute. Requests are of all kinds: pictures, jobs,
some that their clients leave, some that fail. Meanwhile ranks and leaders are killed and come back.
"""

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil

from launch.addresses import free_port
from tests.support.directed_program import Directions
from tests.support.troupe import STEPS, Troupe, eventually, picture, picture_of, troupe

NAMES = ("encoder-0", "denoiser-0", "denoiser-1", "decoder-0")
AT_ONCE = 12
JOB_SHARE, LEAVE_SHARE, FAIL_SHARE = 0.05, 0.05, 0.02
Inventory = dict[str, int]


class Hunt:
    """`told` counts how requests ended, `kills` who was killed."""

    def __init__(self, them: Troupe, state: Path, seed: int) -> None:
        self.them = them
        self.state = state
        self.dice = random.Random(seed)
        self.told: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self._jobs: list[str] = []
        self._left = 0
        self._done = 0

    # ------------------------------------------------------------ requests

    async def storm(self, requests: int, kills: int) -> None:
        """So many requests, with kills spread over them."""
        self._left, self._done = requests, 0
        killing = asyncio.create_task(self._kill(requests, kills))
        async with asyncio.TaskGroup() as clients:
            for _ in range(AT_ONCE):
                clients.create_task(self._client())
        await killing

    async def _client(self) -> None:
        while self._left > 0:
            self._left -= 1
            await self._one(self.dice.random(), self.dice.randrange(200))
            self._done += 1

    async def _one(self, kind: float, seed: int) -> None:
        if (kind := kind - JOB_SHARE) < 0:
            await self._job(seed)
        elif (kind := kind - LEAVE_SHARE) < 0:
            await self._leave(seed)
        elif (kind := kind - FAIL_SHARE) < 0:
            reply = await self._post(seed, Directions("2", act="raise").prompt)
            assert reply.status_code == 500, reply.text
            self.told["failed"] += 1
        else:
            reply = await self._post(seed)
            assert reply.status_code == 200, reply.text
            assert picture_of(reply) == picture(seed)
            self.told["completed"] += 1

    async def _post(self, seed: int, prompt: str = "a star") -> httpx.Response:
        """Asks again for as long as a role has nobody: the door says 503 then."""
        while (reply := await self._reply(seed, prompt)).status_code == 503:
            self.told["not ready"] += 1
            await asyncio.sleep(0.05)
        return reply

    async def _reply(self, seed: int, prompt: str) -> httpx.Response:
        """Says how the cluster stands if there is no answer: whoever hangs is to be found there."""
        try:
            return await self.them.post(seed, prompt)
        except httpx.TimeoutException as error:
            raise AssertionError(f"no answer: {await self.them.cluster()}") from error

    async def _job(self, seed: int) -> None:
        body = {"prompt": "a star", "seed": seed, "num_inference_steps": STEPS}
        reply = await self.them.client.post("/v1/jobs", json=body)
        assert reply.status_code == 202, reply.text
        self._jobs.append(str(reply.json()["id"]))
        self.told["jobs"] += 1

    async def _leave(self, seed: int) -> None:
        asking = self.them.asking(seed, Directions(seconds=0.01))
        await asyncio.wait({asking}, timeout=self.dice.uniform(0, 0.05))
        asking.cancel()
        await asyncio.wait({asking})
        if not asking.cancelled():
            asking.exception()  # a role had nobody, or it was done just before
        self.told["left"] += 1

    # ------------------------------------------------------------ kills

    async def _kill(self, requests: int, kills: int) -> None:
        for number in range(kills):
            await self._until(requests * (number + 1) // (kills + 2))
            name = NAMES[number % len(NAMES)]
            if number % 3 == 0:
                await self.them.restart(name)
                self.kills["leaders"] += 1
            else:
                await self._kill_rank(name)

    async def _until(self, done: int) -> None:
        async def so_many() -> bool:
            return self._done >= done or self._left <= 0

        while not await so_many():  # a night's run takes longer than any deadline of a test
            await asyncio.sleep(0.01)

    async def _kill_rank(self, name: str) -> None:
        for pid in self.them.members[name].ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills["ranks"] += 1

    # ------------------------------------------------------------ what is held

    async def at_rest(self) -> None:
        """Everybody is back, all jobs are over, and a few requests have passed all of them."""
        for name in NAMES:
            await eventually(lambda name=name: self.them.is_ready(name))  # type: ignore[misc]
        for id in self._jobs:
            await eventually(lambda id=id: self._over(id))  # type: ignore[misc]
        await self.them.hang_up()
        asking = [self.them.ask(seed, Directions(seconds=0.02).prompt) for seed in range(12)]
        assert await asyncio.gather(*asking) == [picture(seed) for seed in range(12)]
        await self.them.comes_home()

    async def _over(self, id: str) -> bool:
        told = (await self.them.client.get(f"/v1/jobs/{id}")).json()
        assert told["status"] != "failed", told
        return bool(told["status"] == "completed")

    async def inventory(self) -> Inventory:
        """What processes hold, by name. Rows of the journal: those beyond one for each job."""
        process = self.them.process.process
        assert process is not None
        counts = _held("orchestrator", process.pid)
        page = (await self.them.client.get("/metrics")).text
        [tasks] = [line for line in page.splitlines() if line.startswith("triptych_tasks ")]
        counts["tasks of orchestrator"] = int(float(tasks.split()[1]))
        for name, member in self.them.members.items():
            counts |= _held(name, member.pid)
            counts[f"ranks of {name}"] = len(member.ranks)
            for rank in member.ranks:
                counts |= _held(f"rank of {name}", rank)
        counts["names in /dev/shm"] = len(_shared_names())
        with contextlib.closing(sqlite3.connect(self.state / "journal.db")) as journal:
            [(rows,)] = journal.execute("SELECT count(*) FROM entries")
        counts["rows beyond jobs"] = rows - len(self._jobs)
        counts["files beyond jobs"] = len(os.listdir(self.state / "media")) - len(self._jobs)
        return counts


def _held(name: str, pid: int) -> Inventory:
    process = psutil.Process(pid)
    mapped = Path(f"/proc/{pid}/maps").read_text().count("/memfd:")
    links = [_target(pid, fd) for fd in os.listdir(f"/proc/{pid}/fd")]
    kinds = Counter(link.split(":[")[0] if ":[" in link else "file" for link in links)
    return {
        **{f"descriptors of {name}: {kind}": count for kind, count in kinds.items()},
        f"threads of {name}": process.num_threads(),
        f"unnamed files of {name}": sum(link.endswith(" (deleted)") for link in links),
        f"shared memory of {name}": mapped,
    }


def _shared_names() -> set[str]:
    """What in /dev/shm may be ours: it belongs to this user, and no process has it open that is
    not of this hunt (as a database of somebody else has)."""
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    mine = {entry.name for entry in os.scandir("/dev/shm") if entry.stat().st_uid == os.getuid()}
    for pid in set(psutil.pids()) - ours:
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{pid}/maps").read_text()
            mine -= {name for name in mine if f"/dev/shm/{name}" in maps}
    return mine


def _target(pid: int, fd: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except FileNotFoundError:
        return ""


def differences(before: Inventory, after: Inventory) -> dict[str, tuple[int, int]]:
    """What there is more of than before; less is no leak."""
    return {
        name: (before.get(name, 0), count)
        for name, count in after.items()
        if count > before.get(name, 0)
    }


async def hunt(state: Path, requests: int, kills: int, seed: int = 1) -> Hunt:
    """Runs one, and raises `AssertionError` if anything is left of it."""
    endpoint = f"tcp://127.0.0.1:{free_port('127.0.0.1')}"  # as `triptych up` fixes them
    async with troupe(state, *NAMES[:-1]) as them:
        await them.join("decoder-0", endpoint=endpoint)
        made = Hunt(them, state, seed)
        await made.storm(max(50, requests // 20), 0)  # what is made when it is first needed
        await made.at_rest()
        before = await made.inventory()
        await made.storm(requests, kills)
        await made.at_rest()

        async def as_before() -> bool:
            return not differences(before, await made.inventory())

        with contextlib.suppress(TimeoutError):
            await eventually(as_before)
        left = differences(before, await made.inventory())
        assert not left, f"more than before (before, after): {left}"
        return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--kills", type=int, help="default: one for every 100 requests")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from transfer import keys

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[keys.VARIABLE] = str(keys.make(Path(folder) / "keys").folder)
        kills = options.requests // 100 if options.kills is None else options.kills
        made = asyncio.run(hunt(Path(folder) / "state", options.requests, kills, options.seed))
    print(f"{dict(made.told)}, killed: {dict(made.kills)}; nothing is left of them")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
