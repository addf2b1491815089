"""Cases in processes of their own: one that crashes or hangs is its own verdict, nobody else's end.

The children are forked from a process that has imported everything, which takes milliseconds.
Imports no torch itself.
"""

import contextlib
import os
import selectors
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, NoReturn

import msgspec

from roles.lifeline import tie_to
from tests.conformance.case import Case
from tests.conformance.verdict import Judged, Split, Verdict

Judge = Callable[[Case], Judged]
TAIL_BYTES = 4000  # of what a child that died had written


@dataclass
class Child:
    """One case being judged. `said`: what came of its answer so far; `wrote`: its output."""

    case: Case
    pid: int
    pipe: int
    until: float
    wrote: IO[bytes]
    said: bytes = b""


def judged(
    cases: Sequence[Case], judge: Judge, jobs: int, limit_s: float
) -> Iterator[tuple[Case, Judged]]:
    """Each case as it is done, `jobs` of them at a time, for `limit_s` seconds at most each."""
    waiting = list(reversed(cases))
    running: dict[int, Child] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    child = _forked(waiting.pop(), judge, limit_s)
                    running[child.pipe] = child
                    selector.register(child.pipe, selectors.EVENT_READ)
                for child in _ended(selector, running):
                    selector.unregister(child.pipe)
                    del running[child.pipe]
                    yield child.case, _answer(child)
        finally:
            for child in running.values():
                _end(child)


def _ended(selector: selectors.BaseSelector, running: dict[int, Child]) -> list[Child]:
    """Waits; those that have answered, died, or run out of time."""
    first = min(child.until for child in running.values())
    for key, _ in selector.select(max(0.0, first - time.monotonic())):
        data = os.read(key.fd, 1 << 16)
        running[key.fd].said += data
        if not data:
            return [running[key.fd]]
    return [child for child in running.values() if child.until <= time.monotonic()]


def _forked(case: Case, judge: Judge, limit_s: float) -> Child:
    reading, writing = os.pipe()
    wrote = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child's answer
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(case, judge, writing, wrote.fileno(), parent)
    os.close(writing)
    with contextlib.suppress(OSError):  # whichever of the two is first
        os.setpgid(pid, pid)
    return Child(case, pid, reading, time.monotonic() + limit_s, wrote)


def _child(case: Case, judge: Judge, pipe: int, output: int, parent: int) -> NoReturn:
    """Never returns to what the parent was doing."""
    code = 1
    try:
        tie_to(parent)
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)  # ranks are in it too, and end with it
        os.dup2(output, 1)
        os.dup2(output, 2)
        told = msgspec.json.encode(judge(case))
        with os.fdopen(pipe, "wb") as answering:
            answering.write(told)
        code = 0
    finally:
        os._exit(code)


def _answer(child: Child) -> Judged:
    late = child.until <= time.monotonic()
    status = _end(child)
    child.wrote.seek(max(0, child.wrote.seek(0, os.SEEK_END) - TAIL_BYTES))
    tail = child.wrote.read().decode(errors="replace")
    child.wrote.close()
    if child.said:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(child.said, type=Judged)
    why = "it takes too long" if late else f"its process died: {_told(status)}"
    case = child.case
    return Judged(Verdict(case.pipeline, case.workflow, case.quirk, Split("no", why)), tail)


def _end(child: Child) -> int:
    """Whatever is left of it is gone afterwards; its status."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    os.close(child.pipe)
    return os.waitpid(child.pid, 0)[1]


def _told(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.WEXITSTATUS(status)}"
