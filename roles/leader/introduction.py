"""How an instance introduces itself: to the orchestrator, and on its standard output."""

import json
import os
import platform
from pathlib import Path

from roles.options import RoleOptions
from transfer.messages import HostInfo
from transfer.processes import start_ticks

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_host() -> HostInfo:
    """Which process this is, so that another on the same host can tell whether it still lives."""
    return HostInfo(
        hostname=platform.node(),
        boot_id=_BOOT_ID.read_text(encoding="ascii").strip(),
        pid=os.getpid(),
        start_ticks=start_ticks(os.getpid()),
    )


def ready_line(options: RoleOptions, name: str, rank_pids: list[int]) -> str:
    """The one line of standard output, when the instance can be given work."""
    facts = {
        "ready": True,
        "role": options.role_names,
        "name": name,
        "pid": os.getpid(),
        "rank_pids": rank_pids,
        "control": options.orchestrator,
    }
    return json.dumps(facts)


def advertised(options: RoleOptions, bound: str) -> str:
    """The endpoint that others are told: the given one, if it names a host, else `advertise` and
    the port that was bound."""
    given = options.endpoint
    host = given.removeprefix("tcp://").rpartition(":")[0] if given else ""
    port = bound.rpartition(":")[2]
    return f"tcp://{options.advertise if host in ('', '*', '0.0.0.0') else host}:{port}"
