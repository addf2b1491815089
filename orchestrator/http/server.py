"""uvicorn inside a process that keeps its own event loop, signals and standard output."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.types import ASGIApp

KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that they close first
# A client that takes nothing is given up by the front door; the kernel, which still holds what was
# written, lets go of its socket this long after the last byte that was acknowledged.
UNACKNOWLEDGED_S = 120


def bind(address: str) -> socket.socket:
    """A listening socket at HOST:PORT; port 0 takes any free one. Raises OSError or ValueError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where it sees this protocol number; with it on, each
    # small reply waits some 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    # macOS and others have no such option
    with contextlib.suppress(AttributeError, OSError):
        unacknowledged_ms = UNACKNOWLEDGED_S * 1000
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unacknowledged_ms)
    listener.setblocking(False)
    return listener


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    listener: socket.socket,
    *,
    grace_s: float = 30.0,
    leaving: asyncio.Event | None = None,
) -> AsyncIterator[str]:
    """Serves `app` while the block runs; gives its URL. Takes over the listener.

    Leaving the block stops accepting at once, sets `leaving`, and gives what is under way
    `grace_s` seconds.
    A server that cannot start raises `RuntimeError`; one that stops by itself ends silently, so
    wait for something else.
    """
    host, port = listener.getsockname()[:2]
    server = _Server(_config(app, grace_s))
    running = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        await _started(server, running)
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        if leaving is not None:
            leaving.set()
        server.should_exit = True
        try:
            await running
        finally:
            listener.close()


def _config(app: ASGIApp, grace_s: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        lifespan="on",
        log_config=None,  # standard output belongs to the ready line; the caller sets up logging
        access_log=False,  # /metrics counts them, and the envelope logs what went wrong
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(grace_s)),
    )


async def _started(server: "_Server", running: asyncio.Task[None]) -> None:
    up = asyncio.create_task(server.up.wait())
    await asyncio.wait({up, running}, return_when=asyncio.FIRST_COMPLETED)
    up.cancel()
    if running.done():
        await running


class _Server(uvicorn.Server):
    """Tells when it accepts connections, and leaves signals to the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # it would end the whole loop, past everyone's clean-up
            raise RuntimeError("the HTTP server did not start; the log says why") from None
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
