"""What this machine has: cores that we may use, CUDA devices that torch can use, free memory."""

import os
import subprocess
import sys
from pathlib import Path

from launch.plan import Machine
from transfer.memory import available

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
_NVIDIA = Path("/proc/driver/nvidia/version")


def this_machine() -> Machine:
    return Machine(cores=usable_cores(), cuda_devices=cuda_devices(), memory=available())


def usable_cores() -> int:
    """Cores that the affinity mask and the container's CPU quota leave us."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota()
    return cores if quota is None else max(1, min(cores, quota))


def _quota() -> int | None:
    """The cgroup's quota in whole cores; None if there is none."""
    try:
        quota, period = _CPU_MAX.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) // int(period)


def cuda_devices() -> int:
    """Asked of torch, in a process of its own: a driver alone does not mean that torch can use it,
    and torch shall not be imported here."""
    if not _NVIDIA.exists():
        return 0
    question = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    answer = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, check=False
    )
    return int(answer.stdout) if answer.returncode == 0 else 0
