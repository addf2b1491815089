"""A whole cluster of processes that can be killed, stopped and started one by one.

An orchestrator and real leaders whose models do what the prompt says (`directed_program`), with
scripted compute: it is up in seconds, and every fault comes exactly where a test wants it.
"""

import asyncio
import base64
import contextlib
import io
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from PIL import Image

from tests.support.directed_program import Directions
from tests.support.leader_process import LeaderProcess, gone, leader
from tests.support.orchestrator_process import OrchestratorProcess, orchestrator

DEADLINE_S = 240.0  # on a machine that has much else to do
PATIENCE_S = 200.0  # of a client: a role may be killed and started again on a busy machine
PROGRAM = "tests.support.directed_program:load"
STEPS = 3
Value = TypeVar("Value")


class Member:
    """One instance: `leader` is its process of the moment."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.settings = settings
        self.leader: LeaderProcess | None = None
        self.stack = contextlib.AsyncExitStack()

    @property
    def pid(self) -> int:
        assert self.leader is not None
        return self.leader.process.pid

    @property
    def ranks(self) -> list[int]:
        try:
            return [child.pid for child in psutil.Process(self.pid).children()]
        except psutil.NoSuchProcess:
            return []

    def signal(self, number: signal.Signals, ranks: bool = False) -> None:
        """To its leader; `ranks`: to its ranks too."""
        ranks_now = self.ranks if ranks else []
        for pid in (self.pid, *ranks_now):
            psutil.Process(pid).send_signal(number)


class Troupe:
    """`ask` is a request to the front door. Names of members: encoder-0, denoiser-1, …"""

    def __init__(self, process: OrchestratorProcess, control: str, client: httpx.AsyncClient):
        self.process = process
        self.client = client
        self.members: dict[str, Member] = {}
        self._control = control

    # ------------------------------------------------------------ members

    async def join(self, name: str, control: str | None = None, **settings: Any) -> Member:
        """Starts an instance; its role is the first word of its name."""
        member = self.members[name] = Member(name, settings | {"control": control})
        await self.start(name)
        return member

    async def start(self, name: str) -> None:
        """The same instance again."""
        member = self.members[name]
        settings = {"roles": (name.split("-")[0],), "name": name, "slots": 8, **member.settings}
        control = settings.pop("control") or self._control
        member.leader = await member.stack.enter_async_context(
            leader(control, program=PROGRAM, **settings)
        )

    async def kill(self, name: str) -> None:
        """SIGKILL of the leader; its ranks end with it."""
        member = self.members[name]
        assert member.leader is not None
        ranks = member.ranks
        with contextlib.suppress(ProcessLookupError):
            member.leader.process.kill()
        await member.stack.aclose()
        for pid in ranks:
            await gone(pid)

    async def restart(self, name: str) -> None:
        await self.kill(name)
        await self.start(name)

    def with_rank(self, pid: int) -> Member:
        """Whose rank that is."""
        return next(member for member in self.members.values() if pid in member.ranks)

    # ------------------------------------------------------------ requests

    async def post(self, seed: int, prompt: str = "a star", **fields: Any) -> httpx.Response:
        body = {"prompt": prompt, "seed": seed, "num_inference_steps": STEPS, **fields}
        return await self.client.post("/v1/images/generations", json=body)

    async def ask(self, seed: int, prompt: str = "a star", **fields: Any) -> int:
        """The picture of this request, as its one number."""
        reply = await self.post(seed, prompt, **fields)
        assert reply.status_code == 200, reply.text
        return picture_of(reply)

    def asking(self, seed: int, directions: Directions, **fields: Any) -> "asyncio.Task[int]":
        """The same in the background."""
        return asyncio.create_task(self.ask(seed, directions.prompt, **fields))

    async def hang_up(self) -> None:
        """Closes all connections of the client, those of requests too that were given up."""
        await self.client.aclose()
        self.client = new_client(self.process.http)

    # ------------------------------------------------------------ what is seen

    async def cluster(self) -> dict[str, Any]:
        return dict((await self.client.get("/v1/cluster")).json())

    async def seen(self, name: str) -> dict[str, Any]:
        """The instance as the cluster shows it; {} if it does not."""
        roles = (await self.cluster())["roles"].values()
        return next((x for posts in roles for x in posts if x["name"] == name), {})

    async def is_ready(self, name: str) -> bool:
        return (await self.seen(name)).get("state") == "ready"

    async def everybody_is_there(self) -> None:
        """Whoever has not been killed for good is ready, again if its ranks have died."""
        for name, member in self.members.items():
            if member.leader is not None and member.leader.process.returncode is None:
                await eventually(lambda name=name: self.is_ready(name))  # type: ignore[misc]

    async def counters(self) -> dict[str, int]:
        """The events of /metrics."""
        page = (await self.client.get("/metrics")).text
        lines = [line for line in page.splitlines() if line.startswith("triptych_events_total{")]
        pairs = [line.rsplit(" ", 1) for line in lines]
        return {name.split('"')[1]: int(float(value)) for name, value in pairs}

    async def is_home(self) -> bool:
        """Every slot and place is free, and nobody waits."""
        told = await self.cluster()
        posts = [post for role in told["roles"].values() for post in role if _live(post)]
        held = [(p["in_flight"], p["slots"]["leased"], p["slots"]["quarantined"]) for p in posts]
        busy = told["requests"]["queued"] + told["requests"]["running"]
        return busy == 0 and all(each == (0, 0, 0) for each in held)

    async def comes_home(self) -> None:
        """I3 and I4: waits until it is home; then nothing may have been found not to add up."""
        await eventually(self.is_home)
        counters = await self.counters()
        for name in ("integrity_violations", "control_errors", "invalid_transitions"):
            assert counters.get(name, 0) == 0, counters


def new_client(http: str) -> httpx.AsyncClient:
    """No connection of its own outlives a kill, and it opens as many as it is asked for."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=http, timeout=PATIENCE_S, limits=limits, trust_env=False)


def _live(post: dict[str, Any]) -> bool:
    return post["state"] not in ("failed", "closed")


def picture(seed: int, steps: int = STEPS) -> int:
    """What an undisturbed request gives."""
    return seed + steps


def picture_of(reply: httpx.Response) -> int:
    """The picture of a reply, as its one number."""
    return red(base64.b64decode(reply.json()["data"][0]["b64_json"]))


def red(png: bytes) -> int:
    pixel = Image.open(io.BytesIO(png)).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


async def eventually(holds: Callable[[], Awaitable[Value]]) -> Value:
    """The value, as soon as it is true. What other processes do is looked for."""
    async with asyncio.timeout(DEADLINE_S):
        while not (value := await holds()):
            await asyncio.sleep(0.01)
    return value


class Book:
    """What ranks wrote down: places that requests got to, and where."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def places(self) -> list[str]:
        return [place for place, _, _ in self.lines]

    @property
    def lines(self) -> list[tuple[str, str, str]]:
        """Place, pid and monotonic time; not a line that is being written at this moment."""
        text = self.path.read_text() if self.path.exists() else ""
        whole = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [(place, pid, at) for place, pid, at in whole]

    def pids(self, place: str) -> list[int]:
        """The ranks at which requests got there, in order."""
        return [int(pid) for where, pid, _ in self.lines if where == place]

    async def until(self, place: str, times: int = 1) -> None:
        async def written() -> bool:
            return self.places.count(place) >= times

        await eventually(written)


@contextlib.asynccontextmanager
async def troupe(
    state: Path,
    *names: str,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Troupe]:
    """The orchestrator (`options` are its own) and these instances, ready; `settings`: of all."""
    async with (
        orchestrator(state, **options) as process,
        contextlib.AsyncExitStack() as stack,
    ):
        made = Troupe(process, process.control, new_client(process.http))
        try:
            await asyncio.gather(*(made.join(name, **(settings or {})) for name in names))
            yield made
        finally:
            await made.client.aclose()
            for member in made.members.values():
                stack.push_async_exit(member.stack)
