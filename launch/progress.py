"""What a person sees on standard error while a request is computed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)

from launch.client import Client, RequestError

_LOOK_S = 0.05
STAGES = ("encoder", "denoiser", "decoder")


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """A turning sign with the seconds so far; nothing where standard error is no terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar.add_task(text, total=None)
    with bar:
        yield


class StageBars:
    """One bar for each panel, that moves while the role computes and is full when it is done.

    For a cluster that works on one request alone: it looks at which role has something in flight.
    """

    def __init__(self, client: Client) -> None:
        columns = (TextColumn("  {task.description:<8}"), BarColumn(40), TimeElapsedColumn())
        self._client = client
        self._bars = Progress(*columns, console=Console(stderr=True))
        self._tasks = [self._bars.add_task(stage, total=1, start=False) for stage in STAGES]
        self._reached = -1
        self._end = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="stages", daemon=True)

    def __enter__(self) -> Self:
        self._bars.start()
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end.set()
        self._watcher.join()
        if kind is None:
            self._reach(len(STAGES))
        self._bars.stop()

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_S):
            try:
                self.show(self._client.cluster()["roles"])
            except RequestError:
                return  # the request itself will tell what is wrong

    @property
    def tasks(self) -> list[Task]:
        """The bars, in the order of the panels."""
        return self._bars.tasks

    def show(self, roles: dict[str, list[dict[str, Any]]]) -> None:
        """Moves to the last role that has something in flight, as GET /v1/cluster tells it."""
        for stage, role in enumerate(STAGES):
            if any(instance["in_flight"] for instance in roles.get(role, [])):
                self._reach(stage)

    def _reach(self, stage: int) -> None:
        """Fills the bars before this stage, and lets its own begin to move."""
        while self._reached < stage:
            if self._reached >= 0:
                self._bars.update(self._tasks[self._reached], total=1, completed=1)
            self._reached += 1
            if self._reached < len(STAGES):
                self._bars.start_task(self._tasks[self._reached])
                self._bars.update(self._tasks[self._reached], total=None)
