"""An orchestrator in a process of its own that can be killed and started again where it was."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.options import OrchestratorOptions

DEADLINE_S = 240.0  # on a machine that has much else to do
SCRIPT = """
import sys, msgspec
from orchestrator.options import OrchestratorOptions
from orchestrator.server import serve
sys.exit(serve(msgspec.json.decode(sys.argv[1], type=OrchestratorOptions)))
"""


class OrchestratorProcess:
    """`http` and `control` stay the same over restarts."""

    def __init__(self, options: OrchestratorOptions) -> None:
        self._options = options
        self.process: asyncio.subprocess.Process | None = None
        self.http = self.control = ""

    async def start(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SCRIPT, msgspec.json.encode(self._options).decode()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.process = process
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            ready: dict[str, Any] = json.loads(await process.stdout.readline())
        self.http, self.control = ready["http"], ready["control"]
        fixed = {"http": self.http.removeprefix("http://"), "bind": self.control}
        self._options = msgspec.structs.replace(self._options, **fixed)

    async def kill(self) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()

    async def end(self) -> int:
        """SIGTERM; its exit status."""
        assert self.process is not None
        self.process.terminate()
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()

    async def restart(self) -> None:
        await self.kill()
        await self.start()


@contextlib.asynccontextmanager
async def orchestrator(state: Path, **options: Any) -> AsyncIterator[OrchestratorProcess]:
    made = OrchestratorProcess(OrchestratorOptions(state_dir=str(state), **options))
    try:
        await made.start()
        yield made
    finally:
        await made.kill()
