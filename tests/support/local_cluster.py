"""Real clusters for tests: small, and with what tests ask about them."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import psutil

from launch import Cluster

Value = TypeVar("Value")
REQUEST = {"size": "32x32", "steps": 3}
ENDLESS = {"size": "256x256", "steps": 900}  # minutes
DEADLINE_S = 60.0


def small_cluster(model: Path, **flags: object) -> Cluster:
    """One instance of each role with one thread and little memory."""
    small = {"threads": 1, "slots": 8, "slot_bytes": "256KiB", "start_timeout": 120}
    counts = {"encoders": 1, "denoisers": 1, "decoders": 1}
    return Cluster(model, **{**small, **counts, **flags})


def whole_cluster(model: Path, **flags: object) -> Cluster:
    """One monolithic instance: the quickest to start."""
    return Cluster(model, **{"monolithic": 1, "threads": 1, "start_timeout": 120, **flags})


def process_of(cluster: Cluster, role: str) -> dict[str, Any]:
    """The first process of a role, as the ready line told it."""
    return next(process for process in cluster.processes if process["role"] == role)


def instance_of(cluster: Cluster, role: str) -> dict[str, Any]:
    """The first instance of a role, as the cluster tells it now; {} if there is none."""
    return next(iter(cluster.status()["roles"].get(role, [])), {})


def all_pids(cluster: Cluster) -> list[int]:
    """Supervisor, leaders and ranks, as they were at the start."""
    leaders = [process["pid"] for process in cluster.processes]
    ranks = [pid for process in cluster.processes for pid in process["rank_pids"]]
    return [cluster.pid, *leaders, *ranks]


def is_gone(pid: int) -> bool:
    """Ended; one that only waits for somebody to ask for its exit code has ended too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually(value: Callable[[], Value], what: str) -> Value:
    """The value as soon as it is true. Fails after a minute.

    What other processes do cannot be waited for as an event; it is looked for.
    """
    pause = threading.Event()
    for _ in range(int(DEADLINE_S / 0.02)):
        if found := value():
            return found
        pause.wait(0.02)
    raise AssertionError(f"not within {DEADLINE_S:g} s: {what}")


def in_background(work: Callable[[], Value]) -> "Future[Value]":
    """Runs it in a thread; its result or exception is in the future."""
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def segments() -> set[str]:
    return set(os.listdir("/dev/shm"))
