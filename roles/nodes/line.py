"""A node's connection to its leader: one after the other, and its end is seen at once."""

import asyncio
from typing import Any

import zmq
import zmq.asyncio

from roles.nodes.network import resolved
from roles.options import split_address
from transfer.codec import MAX_FRAME_BYTES, Message, encode
from transfer.contexts import end
from transfer.guard import SEAL_BYTES
from transfer.keys import VARIABLE, KeyPair
from transfer.monitor import FAILED, OF_CLIENT, Monitor

RECONNECT_MS, LONGEST_RECONNECT_MS = 100, 1000


def endpoint_of(rendezvous: str) -> str:
    """HOST:PORT as ZeroMQ takes it. Raises OSError for a name that nobody knows."""
    host, port = split_address(rendezvous)
    _, address = resolved(host)
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


class Line:
    """`connect`, then `send` and `receive`. `parted` is set when a connection that stood has ended:
    what it was for is over, even if ZeroMQ makes another one. `refusal`: why it does not come to
    stand, if the other side hangs up on us."""

    def __init__(self, rendezvous: str, keys: KeyPair) -> None:
        self.parted = asyncio.Event()
        self.refusal: str | None = None
        self._rendezvous = rendezvous
        self._keys = keys
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket | None = None
        self._monitor: Monitor | None = None
        self._stands = False

    def connect(self) -> None:
        """Raises OSError."""
        self.hang_up()
        endpoint = endpoint_of(self._rendezvous)
        self.parted.clear()
        self._stands, self.refusal = False, None
        self._socket = socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        socket.setsockopt(zmq.SNDHWM, 0)  # what ranks answer, as much as they were asked
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES + SEAL_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, LONGEST_RECONNECT_MS)
        self._keys.of_client(socket)
        self._monitor = Monitor(socket, OF_CLIENT)
        asyncio.get_running_loop().add_reader(self._monitor.descriptor, self._look)
        socket.connect(endpoint)
        self._look()

    def send(self, message: Message, data: bytes | None = None) -> None:
        if self._socket is not None:
            frames = [encode(message)] if data is None else [encode(message), data]
            self._socket.send_multipart(frames, flags=zmq.NOBLOCK)

    async def receive(self) -> list[bytes]:
        assert self._socket is not None
        frames: list[Any] = await self._socket.recv_multipart()
        return frames

    def hang_up(self, linger_ms: int = 0) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            asyncio.get_running_loop().remove_reader(monitor.descriptor)
            monitor.close()
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close(linger=linger_ms)

    async def close(self) -> None:
        self.hang_up(linger_ms=1000)
        await asyncio.to_thread(end, self._context)

    def _look(self) -> None:
        if self._monitor is None:
            return
        for event, _ in self._monitor.read():
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._stands, self.refusal = True, None
            elif event & FAILED or (event == zmq.EVENT_DISCONNECTED and not self._stands):
                self.refusal = (
                    f"{self._rendezvous} hangs up on the key in {self._keys.folder}: unless another"
                    " program listens there, copy node 0's key folder to this host and name it "
                    f"with --keys (or {VARIABLE})"
                )
            elif event == zmq.EVENT_DISCONNECTED:
                self.parted.set()
