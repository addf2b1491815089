"""Where the simulation takes the place of the operating system and of other machines.

Everything else of a leader is the code that serves: control client, engine, attempts, handover,
outbox, scheduler, keeper, worker pool, transport, messages and their codec.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from roles.calls import MediaFile
from tests.simulation.engines.clock import LIFE
from tests.simulation.engines.memory import Backend
from tests.simulation.engines.network import Dealer
from tests.simulation.engines.ranks import Rank
from transfer.messages import HostInfo, Media

if TYPE_CHECKING:
    from tests.simulation.engines.process import Process
    from tests.simulation.engines.world import World


def current() -> "Process":
    life = LIFE.get()
    assert life is not None
    process: Process = life.process
    return process


class Gallery:
    """`roles.leader.gallery.Gallery` without descriptors."""

    def __init__(self, server: object, endpoint: str, store: str | None) -> None:
        self._process = current()
        self._endpoint = endpoint

    async def publish(self, pid: int, files: list[MediaFile]) -> list[Media]:
        world = self._process.world
        await asyncio.sleep(world.dice.random() * 0.05)
        if world.strikes("publish") or all(rank.pid != pid for rank in self._process.ranks):
            raise OSError("scripted")
        return [world.publish(self._process, file, self._endpoint) for file in files]

    def discard(self, media: list[Media]) -> None:
        self._process.world.release(media)


def in_thread(function: Callable[..., Any], *args: object) -> "asyncio.Future[Any]":
    """`transfer.threads.in_thread`: the call takes some time, and nobody waits in a thread."""
    loop, process = asyncio.get_running_loop(), current()
    future: asyncio.Future[Any] = loop.create_future()

    def call() -> None:
        if future.done():
            return
        try:
            future.set_result(function(*args))
        except Exception as error:
            future.set_exception(error)

    loop.call_later(process.world.dice.random() * 0.01, call)
    return future


def _backends(pool: Any, kind: str, host: str) -> list[Backend]:
    process = current()
    process.backend = Backend(process, pool)
    return [process.backend]


class _Surprises(logging.Handler):
    """An exception that our code logs and goes on after is one that nobody expected."""

    def __init__(self, world: "World") -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._world.wrong(f"{record.getMessage()}: {record.exc_info[1]!r}")


@contextlib.contextmanager
def seams(world: "World") -> Iterator[None]:
    """While this world runs, in this process."""
    log, handler = logging.getLogger("roles"), _Surprises(world)
    level, propagate = log.level, log.propagate
    replaced: dict[str, Any] = {
        "time.monotonic": world.loop.time,
        "secrets.token_hex": lambda nbytes=16: f"{world.new_pid():x}",
        "roles.leader.control.Dealer": Dealer,
        "roles.leader.pool.RankProcess": Rank,
        "roles.leader.leader.Gallery": Gallery,
        "roles.leader.leader.this_host": lambda: HostInfo("host", "boot", current().life.pid, 1),
        "roles.leader.outbox.Outbox": lambda *args: current().outbox(*args),
        "transfer.transport._backends": _backends,
        "transfer.transport.in_thread": in_thread,
    }
    with contextlib.ExitStack() as stack:
        for name, instead in replaced.items():
            stack.enter_context(patch(name, instead))
        stack.enter_context(patch("roles.leader.leader.print", lambda *_, **__: None, create=True))
        log.addHandler(handler)
        log.setLevel(logging.ERROR)
        log.propagate = False
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)
            log.propagate = propagate
