"""A leader's socket to the orchestrator: one connection after the other, never two."""

import asyncio
from typing import Any

import zmq
import zmq.asyncio

from roles.leader.doorstep import Doorstep
from transfer import contexts
from transfer.codec import MAX_FRAME_BYTES
from transfer.guard import SEAL_BYTES
from transfer.keys import KeyPair

RECONNECT_MS, LONGEST_RECONNECT_MS = 100, 1000


class Dealer:
    """Frames to and from `endpoint`, for who has its `keys`. Decides nothing; see `ControlClient`.

    `connect` makes a new connection, which the other end takes for another peer, and drops the one
    before with all that was queued. Until `welcomed`, `refusal` knows why nobody answers.
    """

    def __init__(self, endpoint: str, keys: KeyPair) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket | None = None
        self._doorstep: Doorstep | None = None

    @property
    def connected(self) -> bool:
        """Whether `connect` has been called, and `close` not yet."""
        return self._socket is not None

    def connect(self) -> None:
        self._hang_up(linger_ms=0)
        self._socket = socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES + SEAL_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, LONGEST_RECONNECT_MS)
        self._keys.of_client(socket)
        self._doorstep = Doorstep(socket, self._endpoint, self._keys)
        socket.connect(self._endpoint)

    async def send(self, frame: bytes) -> None:
        """Returns when ZeroMQ has taken it; it waits while ZeroMQ's own queue is full."""
        assert self._socket is not None
        await self._socket.send(frame)

    async def receive(self) -> list[bytes]:
        """The frames of the next message."""
        assert self._socket is not None
        frames: list[Any] = await self._socket.recv_multipart()
        return frames

    def refusal(self) -> str | None:
        """What to tell the user, if this connection is being turned away."""
        return None if self._doorstep is None else self._doorstep.refusal()

    def welcomed(self) -> None:
        """Nobody looks any more why there is no answer."""
        doorstep, self._doorstep = self._doorstep, None
        if doorstep is not None:
            doorstep.close()

    async def close(self, linger_ms: int) -> None:
        """Ends it for good. What was sent goes out, for so long at most."""
        self._hang_up(linger_ms)
        await asyncio.to_thread(contexts.end, self._context)

    def _hang_up(self, linger_ms: int) -> None:
        self.welcomed()
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close(linger=linger_ms)
