"""A TCP proxy whose wire can be cut, one way or both, for a while or for good."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

Direction = Literal["up", "down"]
BOTH: tuple[Direction, Direction] = ("up", "down")


class Proxy:
    """Between clients and one server; `endpoint` is where clients connect.

    `hold("up")`: nothing that a client says arrives any more, and nobody is told: a partition, as
    between hosts. `release` lets through what was held, in order, as TCP does when a network heals.
    `reset` ends all connections. `delay_s`: each piece comes so much later.
    """

    def __init__(self, server: str) -> None:
        host, _, port = server.removeprefix("tcp://").rpartition(":")
        self._server = (host, int(port))
        self._open: dict[Direction, asyncio.Event] = {way: asyncio.Event() for way in BOTH}
        self._connections: set[asyncio.StreamWriter] = set()
        self.delay_s = 0.0
        self.endpoint = ""
        self.release()

    def hold(self, *ways: Direction) -> None:
        for way in ways or BOTH:
            self._open[way].clear()

    def release(self) -> None:
        for way in BOTH:
            self._open[way].set()

    def reset(self) -> None:
        for writer in list(self._connections):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(*self._server)
        except OSError:
            writer.close()
            return
        both = {writer, there[1]}
        self._connections |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry("up", reader, there[1]))
                group.create_task(self._carry("down", there[0], writer))
        except* OSError:
            pass
        finally:
            self._connections -= both
            for each in both:
                each.close()

    async def _carry(
        self, way: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(1 << 16):
            await asyncio.sleep(self.delay_s)
            await self._open[way].wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # ends the other direction too


@contextlib.asynccontextmanager
async def proxy(server: str) -> AsyncIterator[Proxy]:
    made = Proxy(server)
    listener = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.endpoint = f"tcp://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        listener.close()
        made.release()
        made.reset()
