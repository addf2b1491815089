"""What a rank spends its time on, recorded by torch.profiler for so many seconds at most."""

import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from transfer.actions import OpTime, Profile, Profiled

TOP = 20  # operators that are told of
MICRO = 1e-6


class Profiling:
    """Kept by the worker's loop, which says `look` between two calls, so that a recording ends in
    time though nobody stops it. `settle` waits for the device."""

    def __init__(self, device: str, settle: Callable[[], None]) -> None:
        self._device = torch.device(device)
        self._settle = settle
        self._recording: Any = None
        self._file = Path()
        self._began = self._due = 0.0
        self._count = 0
        self._last: Profiled | None = None

    def act(self, action: Profile) -> Profiled:
        """Raises ValueError; OSError if the trace cannot be written."""
        return self.stop() if action.action == "stop" else self.start(action.path, action.seconds)

    def start(self, path: str, seconds: float) -> Profiled:
        if self._recording is not None:
            raise ValueError(f"it is recording already, to {self._file}")
        folder = Path(path or tempfile.mkdtemp(prefix="triptych-profile-"))
        folder.mkdir(parents=True, exist_ok=True)
        self._count += 1
        name = f"{socket.gethostname()}-{os.getpid()}-{self._count}.json.gz"
        recording = profile(activities=self._activities())
        recording.start()
        self._recording, self._file, self._last = recording, folder / name, None
        self._began = time.monotonic()
        self._due = self._began + seconds
        return Profiled(True, str(self._file), 0.0, [])

    def stop(self) -> Profiled:
        """What was recorded; again the same, if it is over already."""
        if self._recording is None:
            if self._last is None:
                raise ValueError("nothing is being recorded")
            return self._last
        recording, self._recording = self._recording, None
        self._settle()
        seconds = time.monotonic() - self._began
        recording.stop()
        recording.export_chrome_trace(str(self._file))
        self._last = Profiled(False, str(self._file), seconds, _top(recording))
        return self._last

    def look(self) -> None:
        """Ends it if its time is over. Raises OSError."""
        if self._recording is not None and time.monotonic() >= self._due:
            self.stop()

    def _activities(self) -> list[Any]:
        on_gpu = [ProfilerActivity.CUDA] if self._device.type == "cuda" else []
        return [ProfilerActivity.CPU, *on_gpu]


def _top(recording: Any) -> list[OpTime]:
    """Those that took most of the device's time, or of the CPU's where there is no other."""
    found = [
        OpTime(
            each.key,
            each.count,
            each.self_cpu_time_total * MICRO,
            each.self_device_time_total * MICRO,
        )
        for each in recording.key_averages()
    ]
    return sorted(found, key=lambda op: (op.device_s, op.cpu_s), reverse=True)[:TOP]
