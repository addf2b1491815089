"""The orchestrator as a process: ready line, ports, signals."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.support.scripted_dealer import dealers
from transfer.made import ImageMade
from transfer.media import MediaServer
from transfer.messages import SPLIT_ROUTE, Abort, Media, Work

DEADLINE_S = 30.0
SCRIPT = """
import sys
from orchestrator.options import OrchestratorOptions
from orchestrator.server import serve
sys.exit(serve(OrchestratorOptions(bind=sys.argv[1], http=sys.argv[2], policy=sys.argv[3])))
"""


class Served:
    """The process, and what its ready line says."""

    def __init__(self, process: asyncio.subprocess.Process, ready: dict[str, Any]) -> None:
        self.process = process
        self.ready = ready
        self.http: str = ready["http"]
        self.control: str = ready["control"]

    async def ends(self) -> int:
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()


async def _start(bind: str, http: str, policy: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", SCRIPT, bind, http, policy),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@contextlib.asynccontextmanager
async def _served(
    bind: str = "tcp://127.0.0.1:0", http: str = "127.0.0.1:0"
) -> AsyncIterator[Served]:
    process = await _start(bind, http, "round_robin")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_S):
            line = await process.stdout.readline()
        yield Served(process, json.loads(line))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _fails(bind: str, http: str, policy: str = "round_robin") -> str:
    """The one line of a start that does not succeed."""
    process = await _start(bind, http, policy)
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    assert process.returncode == 1
    assert out == b""
    lines = err.decode().strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


async def test_ready_line_and_front_door_and_clean_end() -> None:
    async with _served("tcp://0.0.0.0:0", "0.0.0.0:0") as served:
        facts = served.ready
        assert (facts["ready"], facts["role"], facts["name"]) == (True, *["orchestrator"] * 2)
        assert facts["pid"] == served.process.pid
        assert facts["http"].startswith("http://127.0.0.1:")
        assert facts["control"].startswith("tcp://127.0.0.1:")
        async with httpx.AsyncClient(base_url=served.http) as client:
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/ready")).status_code == 503
        served.process.send_signal(signal.SIGTERM)
        assert await served.ends() == 0


async def test_taken_ports_end_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line, other = await asyncio.gather(
            _fails(f"tcp://{address}", "127.0.0.1:0"), _fails("tcp://127.0.0.1:0", address)
        )
    for said in (line, other):
        assert address in said
        assert "Address already in use" in said


async def test_unknown_policy_ends_with_one_line() -> None:
    assert "round_robin" in await _fails("tcp://127.0.0.1:0", "127.0.0.1:0", "guess")


async def test_sigterm_lets_running_requests_finish() -> None:
    async with (
        _served() as served,
        dealers(served.control, *SPLIT_ROUTE) as made,
        httpx.AsyncClient(base_url=served.http, timeout=DEADLINE_S) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        decoder = made[2]
        decoder.idle = True
        decoder.picture = await stack.enter_async_context(_picture())
        asking = asyncio.create_task(_ask(client))
        work = await decoder.until(Work)
        served.process.send_signal(signal.SIGTERM)
        await _refuses(served.http)
        await decoder.work(work)
        reply = await asking
        assert reply is not None
        assert reply.status_code == 200
        assert reply.json()["data"]
        assert await served.ends() == 0


async def test_second_signal_ends_at_once() -> None:
    async with (
        _served() as served,
        dealers(served.control, *SPLIT_ROUTE) as made,
        httpx.AsyncClient(base_url=served.http, timeout=DEADLINE_S) as client,
    ):
        made[0].idle = True
        asking = asyncio.create_task(_ask(client))
        await made[0].until(Work)
        served.process.send_signal(signal.SIGTERM)
        await _refuses(served.http)
        os.kill(served.process.pid, signal.SIGTERM)
        async with asyncio.timeout(5.0):
            assert await served.process.wait() == 1
        await asking


async def test_client_that_hangs_up_cancels_its_request() -> None:
    async with (
        _served() as served,
        dealers(served.control, *SPLIT_ROUTE) as made,
    ):
        made[0].idle = True
        async with httpx.AsyncClient(base_url=served.http, timeout=DEADLINE_S) as client:
            asking = asyncio.create_task(_ask(client))
            work = await made[0].until(Work)
            asking.cancel()
            await asyncio.wait([asking])
        await made[0].until(Abort, lambda abort: abort.request == work.request)


@contextlib.asynccontextmanager
async def _picture() -> AsyncIterator[Media]:
    """A finished file where a decoder would keep it."""
    async with MediaServer("tcp://127.0.0.1:*") as server:
        with tempfile.TemporaryFile() as file:
            file.write(b"pixels")
            file.flush()
            server.add("m1", os.dup(file.fileno()))
        yield Media("m1", ImageMade(128, 128), "image/png", 6, endpoint=server.endpoint)


async def _ask(client: httpx.AsyncClient) -> httpx.Response | None:
    body = {"prompt": "a red circle", "seed": 1}
    try:
        return await client.post("/v1/images/generations", json=body)
    except httpx.TransportError:
        return None


async def _refuses(url: str) -> None:
    """Waits until the front door takes no new connections."""
    host, port = url.removeprefix("http://").split(":")
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                return
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            await asyncio.sleep(0.01)
