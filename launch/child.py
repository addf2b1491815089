"""One process of a supervised cluster: its ready line, its log, its end."""

import asyncio
import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from launch.itself import environment

TAIL_LINES = 20
_READ_BYTES = 1 << 16
_LAST_LINES_S = 5.0


@dataclass(frozen=True)
class Recipe:
    """What to start, and what to call it."""

    role: str
    name: str
    command: tuple[str, ...]


class Child:
    """A running process. `log(name, line)` gets every line that it writes but the ready one.

    It leads a process group of its own, so that a Ctrl-C in the terminal reaches the supervisor
    alone, and so that its ranks can be reached when it is gone.

    `ready` resolves to its ready line (cancelled if it ends before), `exited` to its exit code
    (-N: killed by signal N). Made in a running event loop, in the main thread (why: see
    `roles.lifeline`).
    """

    def __init__(self, recipe: Recipe, log: Callable[[str, str], None]) -> None:
        loop = asyncio.get_running_loop()
        self.recipe = recipe
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._log = log
        self._process = subprocess.Popen(
            recipe.command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        self.pid = self._process.pid
        self.exited = loop.create_task(self._follow())

    def send(self, number: signal.Signals) -> None:
        if not self.exited.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it and its ranks now."""
        if not self.exited.done():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """Its last line that is an error of ours, or else all that is left of its log."""
        ours = [line for line in self.tail if line.startswith("triptych: ")]
        if ours:
            return ours[-1].removeprefix("triptych: ")
        return "\n  ".join(["it wrote last:", *self.tail]) if self.tail else "it wrote nothing"

    async def _follow(self) -> int:
        output, errors = self._process.stdout, self._process.stderr
        assert output
        assert errors
        readers = asyncio.gather(self._read_output(output), self._read_log(errors))
        try:
            await _ended(self.pid)
            self.kill()  # ranks that outlived their leader; before wait(), while the pid is ours
            code = self._process.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(readers, _LAST_LINES_S)
            return code
        finally:
            readers.cancel()
            self.ready.cancel()

    async def _read_output(self, stream: IO[bytes]) -> None:
        async for line in _lines(stream):
            if not self.ready.done() and (message := _ready_line(line)):
                self.ready.set_result(message)
            else:
                self._log(self.recipe.name, line)

    async def _read_log(self, stream: IO[bytes]) -> None:
        async for line in _lines(stream):
            self.tail.append(line)
            self._log(self.recipe.name, line)


def how_it_ended(code: int) -> str:
    """1 → "exit code 1", -9 → "SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


async def _ended(pid: int) -> None:
    """Returns when the process has ended, before anyone has waited for it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    handle = os.pidfd_open(pid)
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _ready_line(line: str) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and message.get("ready") is True else None


async def _lines(stream: IO[bytes]) -> AsyncIterator[str]:
    """Lines of any length: one longer than the buffer comes in pieces instead of as an error."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), stream
    )
    rest = b""
    try:
        while piece := await reader.read(_READ_BYTES):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > _READ_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                yield line.decode(errors="replace").rstrip()
        if rest:
            yield rest.decode(errors="replace").rstrip()
    finally:
        transport.close()
