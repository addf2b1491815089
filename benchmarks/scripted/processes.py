"""Processes of a benchmark, and the processor time that each of their threads takes."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil


class Started:
    """A process that has printed its ready line, `facts`. `children` are seen as part of it."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by `close`
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.facts: dict[str, Any] = {}

    def line(self) -> str:
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return line.strip()
        code = self.process.wait(10)
        self._log.seek(0)
        raise RuntimeError(f"{self.name} ended with {code}:\n{self._log.read()[-2000:]}")

    def ask(self) -> str:
        """What it answers to a line on its standard input."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return self.line()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()

    def processor_s(self) -> dict[str, float]:
        """Seconds on a processor so far: {"main": …, "zmq": …, "other": …}."""
        root = psutil.Process(self.process.pid)
        spent = {"main": 0.0, "zmq": 0.0, "other": 0.0}
        for process in [root, *root.children(recursive=True)]:
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    kind = "zmq" if (thread / "comm").read_text().startswith("ZMQ") else "other"
                    kind = "main" if int(thread.name) == process.pid else kind
                    spent[kind] += int((thread / "schedstat").read_text().split()[0]) / 1e9
        return spent


@contextlib.contextmanager
def started(name: str, *command: str) -> Iterator[Started]:
    """`python -m COMMAND…`, ended with the block."""
    made = Started(name, list(command))
    try:
        yield made
    finally:
        made.close()


def ready(process: Started) -> Started:
    process.facts = json.loads(process.line())
    return process
