"""What ZeroMQ tells of a socket's connections: accepted, shaken hands, refused, gone."""

import itertools
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import zmq

_NUMBERS = itertools.count()
_EVENT = struct.Struct("=Hi")

FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
CHANGES = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | FAILED
OF_SERVER = CHANGES | zmq.EVENT_ACCEPTED
OF_CLIENT = CHANGES | zmq.EVENT_CONNECTED


class Happening(NamedTuple):
    """`value`: the descriptor of a connection that came or went; why a handshake failed."""

    event: int
    value: int


class Monitor:
    """Reads the events of one socket. Made before it binds or connects; closed before it closes.

    ZeroMQ's own thread writes the events, and would stop where they are not read, so the queue has
    no limit: it is as long as connections come and go while nobody reads. What `descriptor` is:
    readable when there may be something new (an edge; read until nothing comes).
    """

    def __init__(self, socket: "zmq.Socket[Any]", events: int) -> None:
        # never the same twice: one that was closed goes some time later, in a thread of ZeroMQ
        address = f"inproc://monitor-{next(_NUMBERS)}"
        self._watched = socket
        self._socket: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR, socket_class=zmq.Socket)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.setsockopt(zmq.LINGER, 0)
        socket.monitor(address, events)
        self._socket.connect(address)

    @property
    def descriptor(self) -> int:
        return int(self._socket.getsockopt(zmq.FD))

    def read(self) -> Iterator[Happening]:
        """All that has happened since the last time."""
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield Happening(*_EVENT.unpack(frames[0]))

    def close(self) -> None:
        self._watched.disable_monitor()
        self._socket.close()
