"""Who gets past a server's lock: real sockets, and what they are told."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from transfer.guard import Guard
from transfer.keys import KeyPair, make

PATIENCE_S = 20.0
Lock = Callable[["zmq.Socket[bytes]"], None]


@pytest.fixture
def ours(tmp_path: Path) -> KeyPair:
    return make(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> KeyPair:
    return make(tmp_path / "theirs")


class Door:
    """A locked server that answers everything with what it was told."""

    def __init__(self, keys: KeyPair) -> None:
        self.refused: Counter[str] = Counter()
        self.texts: list[str] = []
        self.news = asyncio.Event()
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.guard = Guard(self.socket, keys, self._refuse)
        self.socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self.socket.get_string(zmq.LAST_ENDPOINT)

    async def echo(self) -> None:
        while True:
            await self.socket.send_multipart(await self.socket.recv_multipart())

    async def refusal(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            await self.news.wait()
        return self.texts[0]

    def _refuse(self, reason: str, text: str) -> None:
        self.refused[reason] += 1
        self.texts.append(text)
        self.news.set()


@asynccontextmanager
async def door(keys: KeyPair, *, guarded: bool = True) -> AsyncIterator[Door]:
    made = Door(keys)
    parts = [made.echo(), made.guard.run()] if guarded else [made.echo()]
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield made
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        made.guard.close()
        made.socket.close(linger=0)
        made.context.term()


@asynccontextmanager
async def visitor(endpoint: str, lock: Lock) -> AsyncIterator["zmq.asyncio.Socket"]:
    with zmq.asyncio.Context() as context:
        made = context.socket(zmq.DEALER)
        made.setsockopt(zmq.LINGER, 0)
        lock(made)
        made.connect(endpoint)
        await made.send(b"let me in")
        yield made
        made.close()


async def answered(made: "zmq.asyncio.Socket") -> bool:
    async with asyncio.timeout(PATIENCE_S):
        return bool(await made.recv() == b"let me in")


def nothing(made: "zmq.Socket[bytes]") -> None:
    pass


def password(made: "zmq.Socket[bytes]") -> None:
    made.setsockopt(zmq.PLAIN_USERNAME, b"root")
    made.setsockopt(zmq.PLAIN_PASSWORD, b"root")


async def test_who_has_the_key_gets_in(ours: KeyPair) -> None:
    async with door(ours) as at, visitor(at.endpoint, ours.of_client) as made:
        assert await answered(made)
        assert not at.refused


async def test_another_pair_does_not(ours: KeyPair, theirs: KeyPair) -> None:
    async with door(ours) as at, visitor(at.endpoint, theirs.of_client) as made:
        assert str(ours.folder) in await at.refusal()
        assert set(at.refused) == {"key"}
        assert not await made.poll(0)


async def test_nor_does_the_server_s_public_key_alone(ours: KeyPair, theirs: KeyPair) -> None:
    """It is no secret to whom we connect; the secret key is what counts."""
    mixed = KeyPair(theirs.public, theirs.secret, theirs.folder)

    def lock(made: "zmq.Socket[bytes]") -> None:
        mixed.of_client(made)
        made.setsockopt(zmq.CURVE_SERVERKEY, ours.public)

    async with door(ours) as at, visitor(at.endpoint, lock) as made:
        await at.refusal()
        assert set(at.refused) == {"key"}
        assert not await made.poll(0)


@pytest.mark.parametrize("lock", [nothing, password], ids=["NULL", "PLAIN"])
async def test_other_mechanisms_do_not(ours: KeyPair, lock: Lock) -> None:
    async with door(ours) as at, visitor(at.endpoint, lock) as made:
        await at.refusal()
        assert set(at.refused) <= {"mechanism", "bytes"}  # whoever hangs up first
        assert not await made.poll(0)


async def test_a_door_whose_guard_sleeps_is_shut(
    ours: KeyPair, theirs: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.guard.HANDSHAKE_S", 0.2)
    async with door(ours, guarded=False) as at, visitor(at.endpoint, ours.of_client) as made:
        assert not await made.poll(1000)


async def test_a_door_without_its_authenticator_is_shut(ours: KeyPair) -> None:
    """ZeroMQ's own default is to let everybody in."""
    async with door(ours, guarded=False) as at:
        at.guard._authenticator.stop()
        async with visitor(at.endpoint, ours.of_client) as made:
            assert not await made.poll(1000)


async def test_a_client_does_not_talk_to_a_server_of_others(ours: KeyPair, theirs: KeyPair) -> None:
    async with door(theirs) as impostor, visitor(impostor.endpoint, ours.of_client) as made:
        await impostor.refusal()
        assert not await made.poll(0)


@pytest.mark.parametrize(
    "hello",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\x01\x00", b"x" * 300],
    ids=["HTTP", "TLS", "ZMTP 1", "noise"],
)
async def test_other_protocols_are_counted(ours: KeyPair, hello: bytes) -> None:
    async with door(ours) as at:
        port = int(at.endpoint.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(hello)
        writer.close()
        await at.refusal()
        assert at.refused == {"bytes": 1}


async def test_silence_is_counted(ours: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transfer.guard.HANDSHAKE_S", 0.2)
    async with door(ours) as at:
        port = int(at.endpoint.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):
            assert "too slow" in await at.refusal()
        assert at.refused == {"bytes": 1}
