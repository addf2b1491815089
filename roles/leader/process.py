"""One rank process, as its leader sees it: started, talked to, signalled, reaped."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from roles.calls import Frames
from transfer.codec import ProtocolError

log = logging.getLogger(__name__)

HOST = socket.gethostname()
EOF_GRACE_S = 1.0  # a rank that hung up and does not end by itself is killed


@dataclass(frozen=True)
class RankCommand:
    """How to start one rank. `--fd N`, its end of the socketpair, is appended to `argv`.

    `fds` are inherited under their own numbers; `environment` replaces the leader's.
    """

    argv: Sequence[str]
    environment: Mapping[str, str] | None = None
    fds: Sequence[int] = field(default=())


class Rank(Protocol):
    """What the pool knows of a rank's process, wherever it runs."""

    rank: int
    pid: int  # 0 until it is started
    host: str
    death: str | None  # what it died of

    async def start(self, command: RankCommand, /) -> None: ...

    def send(self, frame: bytes) -> None: ...

    def signal(self, number: signal.Signals) -> None: ...

    async def gone(self, seconds: float) -> bool: ...


class RankProcess(asyncio.Protocol):
    """A child process and the leader's end of the socketpair to it.

    `on_frame(rank, bytes)` for each message of the rank, `on_death(rank)` once, when the process
    is gone and reaped; `death` then says of what. The process has a group of its own, so that
    Ctrl-C in a terminal reaches the leader only, which drains; and its standard output is the
    leader's standard error, because the leader's output is for the ready line.
    """

    def __init__(
        self,
        rank: int,
        on_frame: Callable[[int, bytes], None],
        on_death: Callable[[int], None],
    ) -> None:
        self.rank = rank
        self.pid = 0
        self.host = HOST
        self.death: str | None = None
        self._on_frame = on_frame
        self._on_death = on_death
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._gone = asyncio.Event()

    async def start(self, command: RankCommand) -> None:
        """Spawns the process. Raises OSError if that fails."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _spawn(command, theirs.fileno())
        except BaseException:
            ours.close()
            raise
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._reap)
        self._transport, _ = await loop.create_connection(lambda: self, sock=ours)

    def send(self, frame: bytes) -> None:
        """Queues a frame; to a process that is gone it does nothing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def signal(self, number: signal.Signals) -> None:
        if self.death is None:
            self._process.send_signal(number)

    async def gone(self, seconds: float) -> bool:
        """Whether the process has ended, waiting for it at most so long."""
        try:
            await asyncio.wait_for(self._gone.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._on_frame(self.rank, frame)
        except ProtocolError as error:
            log.error("rank %d (pid %d) sent garbage: %s", self.rank, self.pid, error)
            self.signal(signal.SIGKILL)

    def connection_lost(self, exc: Exception | None) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(EOF_GRACE_S, self.signal, signal.SIGKILL)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.death = cause_of_death(self._process.wait())
        if self._transport is not None:
            self._transport.close()
        self._gone.set()
        self._on_death(self.rank)


def cause_of_death(code: int) -> str:
    """-9 → "died of SIGKILL"; 3 → "exited with code 3"."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def _spawn(command: RankCommand, fd: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*command.argv, "--fd", str(fd)],
        env=None if command.environment is None else dict(command.environment),
        pass_fds=[fd, *command.fds],
        stdin=subprocess.DEVNULL,
        stdout=2,
        process_group=0,
    )
