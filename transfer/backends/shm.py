"""Writing into the slots of a process on the same host: one memcpy into its mapped segment.

Whether a peer is on the same host is decided by its memory, not by its address: whoever can open
the segment under /proc and reads the nonce there is.
"""

import asyncio
import fcntl
import mmap
import os
import select
import stat
import time
import weakref
from collections.abc import Hashable, Sequence

import numpy as np

from transfer.backends import Stop, Unreachable
from transfer.errors import TransferFailed
from transfer.messages import MooncakeAddress, PoolAddress, ShmAddress
from transfer.pool import NONCE_BYTES, PAGE_BYTES, SEALS, SlotPool
from transfer.slots import Copy
from transfer.threads import in_thread

# Between two chunks a copy looks whether it is still wanted. Not smaller: the C library copies a
# large piece past the caches, at up to twice the speed of many small ones (measured: 256 MiB in one
# piece 19 ms, in pieces of 8 to 128 MiB 30 ms).
CHUNK_BYTES = 256 << 20

INLINE_BYTES = 2 << 20  # a copy of this size is over before a thread has woken up


class ShmBackend:
    """Reaches processes of the same user that share this process's /proc."""

    name = "shm"
    mooncake: MooncakeAddress | None = None

    def __init__(self, pool: SlotPool) -> None:
        self._source = pool.view
        self._own = pool.nonce

    def key(self, address: PoolAddress) -> Hashable | None:
        shm = address.shm
        return None if shm is None else (shm.pid, shm.fd, shm.nonce)

    def reach(self, address: PoolAddress, seconds: float) -> "ShmPeer":
        if address.shm is None:
            raise Unreachable("it offers no shared memory")
        process = _process(address.shm.pid)
        try:
            segment = self._source if self._is_own(address.shm) else _open(address.shm)
        except Unreachable:
            os.close(process)
            raise
        return ShmPeer(self._source, segment, process)

    def close(self) -> None:
        self._source = memoryview(b"")

    def _is_own(self, shm: ShmAddress) -> bool:
        """An instance of several roles sends to itself: its pool is mapped already."""
        return shm.pid == os.getpid() and shm.nonce == self._own


class ShmPeer:
    """A mapped segment and the process that owns it.

    The mapping keeps the memory alive, so a copy never faults, even when the owner has died; the
    copy then fails, and none of it matters to anyone.
    """

    def __init__(self, source: memoryview, segment: mmap.mmap | memoryview, process: int) -> None:
        self._source = np.frombuffer(source, np.uint8)
        self._target = np.frombuffer(segment, np.uint8)
        weakref.finalize(self, os.close, process)
        self._exit = select.poll()
        self._exit.register(process, select.POLLIN)
        self._target[::PAGE_BYTES].max()  # maps the pages now rather than during the first copy

    def start(
        self, copies: Sequence[Copy], until: float, stop: Stop
    ) -> "asyncio.Future[None] | None":
        if sum(copy.nbytes for copy in copies) > INLINE_BYTES:
            return in_thread(self._write, copies, until, stop)
        self._write(copies, until, stop)
        return None

    def alive(self) -> bool:
        return not self._exit.poll(0)

    def _write(self, copies: Sequence[Copy], until: float, stop: Stop) -> None:
        for _, target, nbytes in copies:
            if target < PAGE_BYTES or target + nbytes > len(self._target):
                raise TransferFailed("the slots do not lie in the segment", may_land=False)
        for source, target, nbytes in copies:
            for done in range(0, nbytes, CHUNK_BYTES):
                size = min(CHUNK_BYTES, nbytes - done)
                self._copy(source + done, target + done, size)
                self._check(until, stop)

    def _copy(self, source: int, target: int, size: int) -> None:
        np.copyto(self._target[target : target + size], self._source[source : source + size])

    def _check(self, until: float, stop: Stop) -> None:
        """After each chunk, hence also after the last: did it arrive at somebody, is it wanted?"""
        if not self.alive():
            raise TransferFailed("the receiver has died", may_land=False)
        if stop.asked:
            raise TransferFailed("the write was called off", may_land=False)
        if time.monotonic() > until:  # this process was stopped meanwhile, or starved
            raise TransferFailed("the write took too long", may_land=False)


def _process(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (OSError, OverflowError, ValueError) as error:
        raise Unreachable(f"no process {pid} on this host") from error


def _open(shm: ShmAddress) -> mmap.mmap:
    path = f"/proc/{shm.pid}/fd/{shm.fd}"
    try:
        # opening something else than a file (a pipe, a device) could block or do harm
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unreachable(f"{path} is not a slot pool")
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise Unreachable(f"{path} cannot be opened: {error}") from error
    try:
        return _map(fd, shm)
    except (OSError, ValueError, OverflowError) as error:
        raise Unreachable(f"{path} cannot be mapped: {error}") from error
    finally:
        os.close(fd)


def _map(fd: int, shm: ShmAddress) -> mmap.mmap:
    # without the seals its owner could shrink it, and the next copy would be a SIGBUS
    sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
    if not sealed or os.fstat(fd).st_size != shm.nbytes or len(shm.nonce) != NONCE_BYTES:
        raise Unreachable("it is another file than the address says")
    if os.pread(fd, NONCE_BYTES, 0) != shm.nonce:
        raise Unreachable("its nonce differs: another host, or another process since")
    return mmap.mmap(fd, shm.nbytes)
