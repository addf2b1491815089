"""Finished files of a process on the same host: opened by their descriptors, read without a socket.

The owner tells where a file is open (`Badge.tell`), and whoever gets that looks whether it is on
the same host at all (`LocalReader.open`): the process at that number has to wear the badge, a
descriptor named after a random nonce, and the file behind the announced descriptor has to be the
announced one. Nobody else's process wears that badge, and a file that was changed since, or whose
place another one has taken, is another file. Whoever cannot open it asks over the media channel.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import AsyncGenerator
from typing import Self

from transfer.errors import MediaError
from transfer.messages import LocalFile
from transfer.threads import in_thread

# Read in the event loop if it is in memory: 25 µs. Whole pages, and whole threes of base64.
PIECE_BYTES = 252 << 10


class NotLocal(Exception):
    """The file cannot be opened here: another host, another user, or no longer the same file."""


class Badge:
    """Shows that a process is the one that an announcement was made by. `close` it at the end."""

    def __init__(self) -> None:
        self._nonce = secrets.token_hex(16)
        self._fd = os.memfd_create(_name(self._nonce), os.MFD_CLOEXEC)

    def tell(self, fd: int) -> LocalFile:
        """Where the file is that this process holds open, and which one it is. From now on nobody
        may write to it."""
        is_now = os.fstat(fd)
        return LocalFile(
            pid=os.getpid(),
            fd=fd,
            badge=self._fd,
            nonce=self._nonce,
            device=is_now.st_dev,
            inode=is_now.st_ino,
            modified_ns=is_now.st_mtime_ns,
        )

    def close(self) -> None:
        os.close(self._fd)


class LocalReader:
    """One file, open. Its bytes stay even if its owner dies or lets go of it. Whoever opened it
    closes it."""

    def __init__(self, fd: int, file: LocalFile, nbytes: int) -> None:
        self._fd = fd
        self._file = file
        self._nbytes = nbytes

    @classmethod
    def open(cls, file: LocalFile, nbytes: int) -> Self:
        """Raises `NotLocal`."""
        try:
            return cls(_open(file, nbytes), file, nbytes)
        except (OSError, OverflowError, ValueError) as error:
            raise NotLocal(f"it cannot be opened: {error}") from error

    async def pieces(self, piece_bytes: int = PIECE_BYTES) -> AsyncGenerator[bytes, None]:
        """The bytes in order. Small pieces that are in memory are read at once, all others in a
        thread. Raises `MediaError` if the file is not any more what it was, before the last piece.
        """
        for at in range(0, self._nbytes, piece_bytes):
            piece = await self._read(at, min(piece_bytes, self._nbytes - at))
            if at + len(piece) == self._nbytes:
                self._check()
            yield piece

    def close(self) -> None:
        os.close(self._fd)

    async def _read(self, at: int, nbytes: int) -> bytes:
        try:
            piece = _at_once(self._fd, at, nbytes) if nbytes <= PIECE_BYTES else b""
            if not piece:
                piece = await in_thread(_pread, os.dup(self._fd), at, nbytes)
        except OSError as error:
            raise MediaError(f"the file cannot be read: {error}") from error
        if len(piece) != nbytes:
            raise MediaError(f"{len(piece)} bytes at {at} came, {nbytes} were asked for")
        return piece

    def _check(self) -> None:
        if not _same(os.fstat(self._fd), self._file, self._nbytes):
            raise MediaError("the file has been changed while it was read")


def _open(file: LocalFile, nbytes: int) -> int:
    # What is opened under it belongs to this one process: once that has died, nothing is found,
    # even when its number has been given to another one.
    folder = os.open(f"/proc/{file.pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.readlink(str(file.badge), dir_fd=folder) != f"/memfd:{_name(file.nonce)} (deleted)":
            raise NotLocal("its nonce differs: another host, or another process since")
        # opening something else than a file (a pipe, a device) could block or do harm
        _expect(os.stat(str(file.fd), dir_fd=folder), file, nbytes)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(str(file.fd), flags, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _expect(os.fstat(fd), file, nbytes)
    except NotLocal:
        os.close(fd)
        raise
    return fd


def _expect(found: os.stat_result, file: LocalFile, nbytes: int) -> None:
    if not _same(found, file, nbytes):
        raise NotLocal("it is another file than was announced")


def _same(found: os.stat_result, file: LocalFile, nbytes: int) -> bool:
    """What it is, and that nobody has written to it since."""
    identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
    announced = (file.device, file.inode, file.modified_ns, nbytes)
    return stat.S_ISREG(found.st_mode) and identity == announced


def _name(nonce: str) -> str:
    return f"triptych-media-{nonce}"


def _at_once(fd: int, at: int, nbytes: int) -> bytes:
    """What is in memory costs less than asking a thread. Empty: not all of it is."""
    piece = bytearray(nbytes)
    with contextlib.suppress(OSError):
        if os.preadv(fd, [piece], at, os.RWF_NOWAIT) == nbytes:
            return bytes(piece)
    return b""


def _pread(fd: int, at: int, nbytes: int) -> bytes:
    """The descriptor is the thread's own: its owner may close the file meanwhile."""
    try:
        return os.pread(fd, nbytes, at)
    finally:
        os.close(fd)
