"""Keeps one process of a cluster running."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from launch.child import Child, Recipe, how_it_ended
from launch.errors import LaunchError
from roles.backoff import Backoff
from roles.leader.lifecycle import RANKS_KILLED

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0


class Keeper:
    """Starts one process, and starts it again with growing pauses when it died.

    `came_up` is set by its first ready line. One that ends before that is not tried again: what was
    wrong the first time (a flag, a file, a port) would be wrong the next. An instance that ends
    with code 0 or 4 (`roles.leader.lifecycle`) was told to leave, and stays away; an orchestrator
    is wanted as long as we are. The pauses begin at the shortest again after a minute without a
    death.
    """

    def __init__(self, recipe: Recipe, log: Callable[[str, str], None]) -> None:
        self.recipe = recipe
        self.came_up = asyncio.Event()
        self._log = log
        self._child: Child | None = None
        self._stop = asyncio.Event()
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def last_words(self) -> str:
        return self._child.last_words() if self._child else "it was not started"

    async def keep(self) -> None:
        """Runs until the process has left for good. Raises `LaunchError` if it never came up."""
        while not self._stop.is_set():
            code, lived_s = await self._live()
            if self._stop.is_set() or self._left(code):
                return
            if not self.came_up.is_set():
                raise LaunchError(
                    f"{self.recipe.name} did not come up ({how_it_ended(code)}): "
                    f"{self.last_words()}"
                )
            if lived_s >= STEADY_S:
                self._backoff.reset()
            delay = self._backoff.next()
            self._say(f"died ({how_it_ended(code)}); started again in {delay:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), delay)

    def terminate(self) -> None:
        """Asks it to finish what it has; it is not started again."""
        self._stop.set()
        if self._child:
            self._child.send(signal.SIGTERM)

    def kill(self) -> None:
        self._stop.set()
        if self._child:
            self._child.kill()

    async def _live(self) -> tuple[int, float]:
        """One life of the process: its exit code, and how many seconds it lasted."""
        clock = asyncio.get_running_loop().time
        began = clock()
        self._child = Child(self.recipe, self._log)
        self._child.ready.add_done_callback(self._on_ready)
        code = await self._child.exited
        return code, clock() - began

    def _on_ready(self, ready: asyncio.Future[dict[str, Any]]) -> None:
        if ready.cancelled():
            return
        if self.came_up.is_set():
            self._say(f"is back (pid {self.pid})")
        else:
            self.came_up.set()

    def _left(self, code: int) -> bool:
        ended = code in (0, RANKS_KILLED)
        left = ended and self.came_up.is_set() and self.recipe.role != "orchestrator"
        if left:
            how = ", though ranks had to be killed for it" if code == RANKS_KILLED else ""
            self._say(f"has left, as it was told to{how}; it is not started again")
        return left

    def _say(self, message: str) -> None:
        self._log("up", f"{self.recipe.name} {message}")
