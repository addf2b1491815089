"""Cores that several ranks of one machine share: whoever computes alone may use all of them.

Each rank has threads of its own, and the cores are enough for all ranks with theirs. While others
have nothing to do, their cores would be idle; so a rank looks before each unit of work how many
compute, and divides the cores by that. A request that is `exact` keeps to the rank's own number,
because pixels depend on it.

Who computes is told by locks in one file: no process has to answer, and the kernel drops the lock
of one that dies. Imports no torch.
"""

import fcntl
import os
import struct
from pathlib import Path

_FLOCK = struct.Struct("hhqqi")  # type, whence, start, length, pid: Linux with 64 bits
_END = 1 << 31  # beyond every pid


class Cores:
    """One rank's view of the cores of its machine.

    `own`: the threads that it always has. `total`: the cores that are shared. `file`: in which the
    ranks lock one byte each, at their pid, while they compute; opened for writing. Raises OSError.

    A rank says `work()` when it begins to compute, and `rest()` when it has had nothing to do for
    a moment. `threads(alone)` says how many there are now, of which work that stays on its own has
    the rank's own number, and `changed()` whether that has become another number than it was when
    it was last asked for.
    """

    def __init__(self, own: int, total: int, file: Path | str) -> None:
        self._total = total
        self.own = self.current = own
        self._alone = self._working = False
        self._fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)

    def work(self) -> None:
        """From now on this rank computes."""
        if not self._working:
            self._lock(fcntl.LOCK_EX)
            self._working = True

    def rest(self) -> None:
        """Others may have its cores."""
        if self._working:
            self._lock(fcntl.LOCK_UN)
            self._working = False

    def threads(self, alone: bool) -> int:
        """How many threads the next unit may use."""
        self._alone = alone
        self.current = self._now()
        return self.current

    def changed(self) -> bool:
        """Whether cores were taken or given back since."""
        return self._now() != self.current

    def label(self, key: str) -> str:
        """A key of forwards as they are now: what they cost depends on the number of threads."""
        return key if self.current == self.own else f"{self.current}x{key}"

    def close(self) -> None:
        os.close(self._fd)

    def _now(self) -> int:
        return self.own if self._alone else share(self.own, self._total, self._others())

    def _lock(self, operation: int) -> None:
        fcntl.lockf(self._fd, operation, 1, os.getpid())  # nobody else locks this byte

    def _others(self) -> int:
        """How many other ranks compute at this moment."""
        count, ranges = 0, [(0, _END)]
        while ranges:
            first, end = ranges.pop()
            at = self._locked(first, end) if first < end else None
            if at is not None:  # one of them, not the first: the kernel keeps them in no order
                count += 1
                ranges += [(first, at), (at + 1, end)]
        return count

    def _locked(self, first: int, end: int) -> int | None:
        """A byte in this range that another process has locked; None if there is none."""
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, first, end - first, 0)
        kind, _, at, _, _ = _FLOCK.unpack(fcntl.fcntl(self._fd, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else int(at)


class OwnCores:
    """A rank that shares with nobody: the same number of threads always."""

    def __init__(self, own: int) -> None:
        self.own = self.current = own

    def work(self) -> None:
        pass

    def rest(self) -> None:
        pass

    def threads(self, alone: bool) -> int:
        return self.current

    def changed(self) -> bool:
        return False

    def label(self, key: str) -> str:
        return key

    def close(self) -> None:
        pass


def share(own: int, total: int, others: int) -> int:
    """Threads of each rank when it and so many others compute: never fewer than its own."""
    return max(own, total // (1 + others))
