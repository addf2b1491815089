"""A leader, or a node of its instance, in a process of its own, started by a test: python -m
tests.support.leader_process."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

import msgspec

from roles.leader import control, keeper
from roles.options import RoleOptions
from tests.support.faulty_writes import install
from transfer.codec import MAGIC, PROTOCOL, encode

ROOT = Path(__file__).parents[2]
SCRIPTED = "tests.support.scripted_program:load"
DEADLINE_S = 240.0  # on a machine that has much else to do


class LeaderProcess:
    """`ready` is its ready line, decoded; `stderr` what it logged, once it has ended."""

    def __init__(self, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self.process = process
        self._log = log
        self.ready: dict[str, Any] = {}
        self.stderr = ""

    async def wait_ready(self) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            self.ready = json.loads(await self.process.stdout.readline())

    @property
    def pids(self) -> list[int]:
        return [self.process.pid, *self.ready.get("rank_pids", [])]

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code; all output has been read by then."""
        async with asyncio.timeout(DEADLINE_S):
            await self.process.communicate()
        self._log.seek(0)
        self.stderr = self._log.read().decode()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def leader(
    orchestrator: str,
    *,
    program: str = SCRIPTED,
    ready: bool = True,
    faults: Path | None = None,
    within: tuple[str, ...] = (),
    protocol: int = PROTOCOL,
    ranks_are: str = "roles.rank",
    **settings: Any,
) -> AsyncIterator[LeaderProcess]:
    """Starts a leader, and sees to it that nothing of it is left.

    `faults`: the file in which it is told what goes wrong with its writes (`faulty_writes`).
    `within`: words before its command line. `protocol`: the version that it says it speaks.
    `ranks_are`: the module that is run as its ranks.
    """
    given = {"model": "fine", "threads": 1, "transfer": "shm", "slots": 4, "slot_bytes": 1 << 16}
    given["slice_s"] = 0.0  # every step is heard of
    options = RoleOptions(orchestrator=orchestrator, **{**given, **settings})
    twist = msgspec.json.encode((faults and str(faults), protocol, ranks_are)).decode()
    log = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads would fill
    process = await asyncio.create_subprocess_exec(
        *(
            *within,
            sys.executable,
            "-m",
            __name__,
            msgspec.json.encode(options).decode(),
            program,
            twist,
        ),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        limit=1 << 20,
    )
    made = LeaderProcess(process, log)
    try:
        if ready:
            await made.wait_ready()
        yield made
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
        for pid in made.pids:
            await gone(pid)
        log.close()


async def gone(pid: int) -> None:
    """Waits until no process has this pid."""
    async with asyncio.timeout(DEADLINE_S):
        while alive(pid):
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _twist(faults: str | None, protocol: int, ranks_are: str) -> None:
    if faults is not None:
        install(Path(faults))
    patch.object(keeper, "RANK", ranks_are).start()
    if ranks_are != "roles.rank":  # test after test kills them, which is no reason to wait longer
        patch.object(keeper, "STEADY_S", 0.0).start()
    prefix = bytes([MAGIC, protocol])  # of what it says to the orchestrator; its ranks are its own
    setattr(control, "encode", lambda message: prefix + encode(message)[2:])  # noqa: B010


if __name__ == "__main__":
    from roles.leader.leader import serve
    from roles.nodes import node

    _twist(*msgspec.json.decode(sys.argv[3], type=tuple[str | None, int, str]))
    OPTIONS = msgspec.json.decode(sys.argv[1], type=RoleOptions)
    sys.exit((serve if OPTIONS.node_rank == 0 else node.serve)(OPTIONS, sys.argv[2]))
