"""The lock on a server's socket: only who holds the cluster's key gets past the handshake."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import zmq
from zmq.auth.base import Authenticator

from transfer.keys import KeyPair
from transfer.monitor import OF_SERVER, Monitor
from transfer.refusals import Reason, Refusals

HANDSHAKE_S = 3.0
# A frame on the wire is so much longer than the message in it: 8 bytes of a name, 8 of a nonce, 16
# that seal it, 1 of flags (RFC 26). ZMQ_MAXMSGSIZE counts them.
SEAL_BYTES = 33

_DOMAIN = "triptych"
_SETTLE_S = 1.0

WHY: dict[Reason, str] = {
    "key": "it has not the key of {folder}",
    "mechanism": "it shows no key at all; this port takes the key of {folder}",
    "bytes": "it speaks another protocol, is too slow, or hung up",
}


class Guard:
    """Locks a server's socket with the cluster's pair. Made before the socket binds; one for each
    context, because that is what ZeroMQ asks who may come in (ZAP, RFC 27).

    `run` in a task for as long as the socket lives: until it runs, everybody waits at the door, and
    is turned away after `HANDSHAKE_S`. `refused(reason, text)` is called for everyone who was,
    `parted` when a connection ends, whoever's it was. `close` before the socket is closed.
    """

    def __init__(
        self,
        socket: "zmq.Socket[Any]",
        keys: KeyPair,
        refused: Callable[[Reason, str], None],
        parted: Callable[[], None] = lambda: None,
    ) -> None:
        self._keys = keys
        self._refused = refused
        self._parted = parted
        self._refusals = Refusals(HANDSHAKE_S + 1.0)
        self._authenticator = Authenticator(socket.context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(_DOMAIN, _Only(keys.public))
        keys.of_server(socket)
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN.encode())
        # Without this, ZeroMQ lets everybody in where no authenticator answers.
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_S * 1000))
        self._monitor = Monitor(socket, OF_SERVER)

    async def run(self) -> None:
        """Never returns."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        asked = int(self._authenticator.zap_socket.getsockopt(zmq.FD))
        descriptors = (asked, self._monitor.descriptor)
        for descriptor in descriptors:
            loop.add_reader(descriptor, news.set)
        try:
            while True:
                news.clear()
                await self._answer()
                self._count()
                await _wait(news, _SETTLE_S if self._refusals.open else None)
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)

    def close(self) -> None:
        self._monitor.close()
        self._authenticator.stop()

    async def _answer(self) -> None:
        """Says of everyone who has shown a key whether it is ours."""
        while True:
            try:
                asked = self._authenticator.zap_socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            await self._authenticator.handle_zap_message(asked)

    def _count(self) -> None:
        now = time.monotonic()
        for happening in self._monitor.read():
            if reason := self._refusals.note(happening, now):
                self._tell(reason)
            if happening.event == zmq.EVENT_DISCONNECTED:
                self._parted()
        for _ in range(self._refusals.settle(now)):
            self._tell("bytes")

    def _tell(self, reason: Reason) -> None:
        self._refused(reason, WHY[reason].format(folder=self._keys.folder))


class _Only:
    """What pyzmq asks about each key (as Z85) that was shown."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    def callback(self, _domain: str, key: bytes) -> bool:
        return key == self._public


async def _wait(news: asyncio.Event, seconds: float | None) -> None:
    """Until there is news, or so many seconds have passed."""
    timer = seconds and asyncio.get_running_loop().call_later(seconds, news.set)
    try:
        await news.wait()
    finally:
        if timer:
            timer.cancel()
