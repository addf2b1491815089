"""One `triptych serve` as a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


class Served:
    """A running `triptych serve` and its ready line."""

    def __init__(self, config: Path, role: str, *words: str) -> None:
        command = [sys.executable, "-m", "launch.cli", "serve", "--disagg-role", role]
        self.process = subprocess.Popen(
            [*command, "--config", str(config), *words], stdout=subprocess.PIPE, text=True
        )
        self._ready: dict[str, Any] = {}

    @property
    def ready(self) -> dict[str, Any]:
        if not self._ready:
            assert self.process.stdout
            self._ready = json.loads(self.process.stdout.readline())
        return self._ready

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
