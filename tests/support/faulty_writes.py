"""A leader whose writes into another one's slots go wrong at a given byte, for tests of transfers.

`install(order)` in that leader's process, before it starts. Whoever wants a write to go wrong puts
a `Fault` into the file `order`; the next write that is long enough takes it out again, and obeys.
"""

import os
import signal
import time
from pathlib import Path

import msgspec

from transfer.backends.shm import ShmPeer
from transfer.errors import TransferFailed


class Fault(msgspec.Struct):
    """What happens at byte `at` of a write: kill, stop (SIGSTOP) or wait (until the file `gate` is
    there). flip: all of it is written, and then a bit there is another one. fail: the write fails,
    and what it wrote stays."""

    act: str
    at: int
    gate: str = ""

    def order(self, path: Path) -> None:
        """The next write obeys."""
        whole = path.with_suffix(".new")
        whole.write_bytes(msgspec.json.encode(self))
        whole.rename(path)


def install(order: Path) -> None:
    copy = ShmPeer._copy

    def faulty(peer: ShmPeer, source: int, target: int, size: int) -> None:
        fault = _taken(order, size)
        if fault is None:
            copy(peer, source, target, size)
            return
        copy(peer, source, target, fault.at)
        _act(fault)
        copy(peer, source + fault.at, target + fault.at, size - fault.at)
        if fault.act == "flip":
            peer._target[target + fault.at] ^= 1

    setattr(ShmPeer, "_copy", faulty)  # noqa: B010  # mypy takes an assignment for a mistake


def _taken(order: Path, size: int) -> Fault | None:
    if not order.exists():
        return None
    fault = msgspec.json.decode(order.read_bytes(), type=Fault)
    if size <= fault.at:
        return None
    order.unlink()
    return fault


def _act(fault: Fault) -> None:
    match fault.act:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "fail":
            raise TransferFailed("as directed", may_land=False)
        case "wait":
            while not Path(fault.gate).exists():
                time.sleep(0.002)
