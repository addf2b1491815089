"""uvicorn inside a process of ours."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from orchestrator.http.server import bind, serving
from tests.support.front_door import Door


def test_any_free_port() -> None:
    with bind("127.0.0.1:0") as first, bind("127.0.0.1:0") as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_a_taken_port_is_an_error() -> None:
    with bind("127.0.0.1:0") as taken, pytest.raises(OSError, match="in use"):
        bind(f"127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999"])
def test_a_bad_address_is_an_error(address: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        bind(address)


async def test_small_replies_are_not_delayed() -> None:
    """With Nagle's algorithm on, each of them would take 40 ms."""
    with bind("127.0.0.1:0") as listener, socket.create_connection(listener.getsockname()):
        loop = asyncio.get_running_loop()
        accepted, _ = await loop.sock_accept(listener)
        _, writer = await asyncio.open_connection(sock=accepted)
        inside = writer.get_extra_info("socket")
        assert inside.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()


@pytest.mark.skipif(not socket.has_ipv6, reason="this system has no IPv6")
async def test_an_ipv6_address() -> None:
    try:
        listener = bind("[::1]:0")
    except OSError as error:
        pytest.skip(f"no IPv6 on this host: {error}")
    async with serving(Door().app, listener, grace_s=1) as url, httpx.AsyncClient() as client:
        assert url.startswith("http://[::1]:")
        assert (await client.get(f"{url}/health")).status_code == 200


async def test_signals_stay_with_the_process() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with Door().listening():
        assert signal.getsignal(signal.SIGTERM) is before


async def test_an_application_that_does_not_start_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @contextlib.asynccontextmanager
    async def broken(app: FastAPI) -> AsyncIterator[None]:
        raise OSError("no")
        yield

    with pytest.raises(RuntimeError, match="did not start"):
        async with serving(FastAPI(lifespan=broken), bind("127.0.0.1:0")):
            pass
