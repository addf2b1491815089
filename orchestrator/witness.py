"""Knows, on this host, when an instance's process has ended: sooner and surer than heartbeats."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from transfer.messages import HostInfo
from transfer.processes import start_ticks

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Witness:
    """Holds a pidfd of each process that registered from this host; the kernel makes it readable
    when the process has ended, whoever its parent is, and a recycled pid cannot be mistaken for it.

    A process counts as one of ours only if it is found alive, under its pid and start time, when it
    registers: the same boot id may also be another container's, whose pids mean nothing here. On
    systems without pidfds nobody is watched, and heartbeats decide alone.
    """

    def __init__(self, on_end: Callable[[str, int], None]) -> None:
        self._on_end = on_end
        self._boot_id = _read_boot_id()
        self._watched: dict[int, tuple[int, str, int]] = {}  # pid → (pidfd, name, epoch)

    def watch(self, name: str, epoch: int, host: HostInfo) -> None:
        """From now on the process is watched under this name and epoch, instead of older ones."""
        if self._boot_id is None or host.boot_id != self._boot_id:
            return
        descriptor = _open(host)
        if descriptor is None:
            return
        self._forget(host.pid)
        self._watched[host.pid] = (descriptor, name, epoch)
        asyncio.get_running_loop().add_reader(descriptor, self._ended, host.pid)

    def close(self) -> None:
        for pid in list(self._watched):
            self._forget(pid)

    def _ended(self, pid: int) -> None:
        _, name, epoch = self._watched[pid]
        self._forget(pid)
        self._on_end(name, epoch)

    def _forget(self, pid: int) -> None:
        known = self._watched.pop(pid, None)
        if known is not None:
            asyncio.get_running_loop().remove_reader(known[0])
            os.close(known[0])


def _read_boot_id() -> str | None:
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return None


def _open(host: HostInfo) -> int | None:
    """A pidfd of exactly this process; None if it is not here."""
    try:
        descriptor = os.pidfd_open(host.pid)
    except (AttributeError, OSError, OverflowError, ValueError):
        return None
    # the pidfd is held by now, so the start time that is read next is of the same process
    with contextlib.suppress(OSError, ValueError):
        if start_ticks(host.pid) == host.start_ticks:
            return descriptor
    os.close(descriptor)
    return None
