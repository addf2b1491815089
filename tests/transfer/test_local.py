"""Finished files opened by their owner's descriptors (row T11): the right bytes or a clear no."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

import msgspec
import pytest

from tests.support.descriptors import held_open
from transfer import local
from transfer.errors import MediaError
from transfer.local import PIECE_BYTES, Badge, LocalReader, NotLocal
from transfer.messages import LocalFile

OWNER = """
import sys, tempfile
import msgspec
from transfer.local import Badge
file, badge = tempfile.TemporaryFile(), Badge()
file.write(sys.stdin.buffer.read(int(sys.argv[1])))
file.flush()
print(msgspec.json.encode(badge.tell(file.fileno())).decode(), flush=True)
sys.stdin.buffer.read()
"""
CONTENT = os.urandom(3 * PIECE_BYTES + 5)


class Owner:
    """Another process that holds a file."""

    def __init__(self, content: bytes) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(len(content))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(content)
        self.process.stdin.flush()
        self.file = msgspec.json.decode(self.process.stdout.readline(), type=LocalFile)

    def die(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def owner() -> Iterator[Owner]:
    made = Owner(CONTENT)
    yield made
    made.die()


@pytest.fixture
def badge() -> Iterator[Badge]:
    with contextlib.closing(Badge()) as made:
        yield made


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as made:
        made.write(CONTENT)
        made.flush()
        yield made


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = held_open()
    yield
    assert held_open() <= before


async def read(file: LocalFile, nbytes: int = len(CONTENT), **pieces: int) -> bytes:
    with contextlib.closing(LocalReader.open(file, nbytes)) as reader:
        return b"".join([piece async for piece in reader.pieces(**pieces)])


def refused(file: LocalFile, nbytes: int = len(CONTENT)) -> str:
    with pytest.raises(NotLocal) as why:
        LocalReader.open(file, nbytes)
    return str(why.value)


def but(file: LocalFile, **changes: object) -> LocalFile:
    return msgspec.structs.replace(file, **changes)


async def test_t11_a_file_of_another_process_is_read(owner: Owner) -> None:
    assert await read(owner.file) == CONTENT


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1])
async def test_t11_every_length_arrives(badge: Badge, size: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT[:size])
        file.flush()
        assert await read(badge.tell(file.fileno()), size) == CONTENT[:size]


async def test_t11_large_pieces_are_read_in_a_thread(
    badge: Badge, file: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_at_once", None)
    assert await read(badge.tell(file.fileno()), piece_bytes=2 * PIECE_BYTES) == CONTENT


async def test_t11_what_is_not_in_memory_is_read_in_a_thread(
    badge: Badge, file: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_now(*_: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(local.os, "preadv", not_now)
    assert await read(badge.tell(file.fileno())) == CONTENT


def test_t11_another_nonce_is_another_host(badge: Badge, file: IO[bytes]) -> None:
    told = badge.tell(file.fileno())
    for nonce in ("", told.nonce[:-1], "0" * 32, "../" * 5):
        assert "another host" in refused(but(told, nonce=nonce))


def test_t11_a_recycled_pid_is_not_the_owner(owner: Owner, badge: Badge, file: IO[bytes]) -> None:
    """As if the owner had died, and this process, which has such a file too, had its number."""
    ours = badge.tell(file.fileno())
    assert "another host" in refused(but(owner.file, pid=ours.pid, badge=ours.badge))
    assert "another host" in refused(but(ours, nonce=owner.file.nonce))


def test_t11_a_dead_owner_has_no_file(owner: Owner) -> None:
    os.kill(owner.process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, owner.process.pid, os.WEXITED | os.WNOWAIT)  # a zombie keeps its number
    refused(owner.file)
    owner.process.wait()
    refused(owner.file)


@pytest.mark.parametrize("pid", [0, -1, 1 << 22, 1 << 70])
def test_t11_no_such_process(badge: Badge, file: IO[bytes], pid: int) -> None:
    assert "cannot be opened" in refused(but(badge.tell(file.fileno()), pid=pid))


def test_t11_no_such_descriptor(badge: Badge, file: IO[bytes]) -> None:
    told = badge.tell(file.fileno())
    for fd in (-1, 1 << 20, 1 << 70):
        assert "cannot be opened" in refused(but(told, fd=fd))
        assert "cannot be opened" in refused(but(told, badge=fd))


def test_t11_a_recycled_descriptor_is_another_file(badge: Badge, file: IO[bytes]) -> None:
    told = badge.tell(file.fileno())
    with tempfile.TemporaryFile() as other:
        other.write(CONTENT)
        other.flush()
        os.dup2(other.fileno(), file.fileno())
        assert "another file" in refused(told)


def test_t11_another_length_is_another_file(badge: Badge, file: IO[bytes]) -> None:
    told = badge.tell(file.fileno())
    for nbytes in (0, len(CONTENT) - 1, len(CONTENT) + 1):
        assert "another file" in refused(told, nbytes)


def test_t11_a_file_that_was_written_to_is_another_file(badge: Badge, file: IO[bytes]) -> None:
    told = badge.tell(file.fileno())
    write_later(file, told)
    assert "another file" in refused(told)


def test_t11_a_pipe_does_not_block(badge: Badge, file: IO[bytes]) -> None:
    reading, writing = os.pipe()
    try:
        assert "another file" in refused(but(badge.tell(file.fileno()), fd=reading))
    finally:
        os.close(reading)
        os.close(writing)


async def test_t11_a_file_that_shrinks_breaks_off(badge: Badge, file: IO[bytes]) -> None:
    with contextlib.closing(LocalReader.open(badge.tell(file.fileno()), len(CONTENT))) as reader:
        pieces = reader.pieces()
        assert await anext(pieces) == CONTENT[:PIECE_BYTES]
        file.truncate(PIECE_BYTES + 1)
        with pytest.raises(MediaError, match="1 bytes at"):
            await anext(pieces)


async def test_t11_a_file_that_changes_breaks_off_before_its_end(
    badge: Badge, file: IO[bytes]
) -> None:
    told = badge.tell(file.fileno())
    with contextlib.closing(LocalReader.open(told, len(CONTENT))) as reader:
        pieces = reader.pieces()
        came = b"".join([await anext(pieces) for _ in range(3)])
        write_later(file, told)
        with pytest.raises(MediaError, match="has been changed"):
            await anext(pieces)
        assert len(came) < len(CONTENT)


async def test_t11_an_owner_that_dies_in_the_middle_takes_nothing_along(owner: Owner) -> None:
    with contextlib.closing(LocalReader.open(owner.file, len(CONTENT))) as reader:
        pieces = reader.pieces()
        came = await anext(pieces)
        os.kill(owner.process.pid, signal.SIGKILL)
        owner.process.wait()
        assert came + b"".join([piece async for piece in pieces]) == CONTENT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_t11_another_user_s_file_is_not_opened(badge: Badge, file: IO[bytes]) -> None:
    told = msgspec.json.encode(badge.tell(file.fileno())).decode()
    code = f"""
import os, msgspec
from transfer.local import LocalReader, NotLocal
from transfer.messages import LocalFile
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    LocalReader.open(msgspec.json.decode({told!r}, type=LocalFile), {len(CONTENT)})
except NotLocal as why:
    print(why)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert "Permission denied" in found.stdout


def write_later(file: IO[bytes], told: LocalFile) -> None:
    """Writes what is there already, so that nothing but the time of it changes."""
    while os.fstat(file.fileno()).st_mtime_ns == told.modified_ns:
        os.pwrite(file.fileno(), CONTENT[:1], 0)
