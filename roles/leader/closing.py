"""How an instance comes to its end: closed or failed, in any case, and in time."""

import asyncio
import time
from typing import Literal

from roles.leader.asked import Asked
from roles.leader.control import ControlClient
from roles.leader.engine import Engine
from roles.leader.keeper import Keeper
from roles.leader.lifecycle import Lifecycle
from transfer.ends import PoolEnd
from transfer.messages import Ended

LAST_WRITE_S = 3.0  # for what is being written to be over, or given up


class Closing:
    """Whoever waits for an answer is told; what is being written ends; the orchestrator hears
    goodbye, and has the requests done elsewhere; the ranks are ended, by force if they must; and
    the last word says what that took. Each of these has its seconds,
    `roles.leader.lifecycle.CLOSE_S` in all.
    """

    def __init__(
        self,
        life: Lifecycle,
        asked: Asked,
        engine: Engine,
        control: ControlClient,
        keeper: Keeper,
    ) -> None:
        self._life = life
        self._asked = asked
        self._engine = engine
        self._control = control
        self._keeper = keeper
        self._state: Literal["closed", "failed"] = "closed"
        self._cause = ""

    async def close(self, reason: str, broken: bool) -> PoolEnd:
        """`broken`: it does not end because it was told to."""
        began = time.monotonic()
        await self._asked.close()
        if still := await self._is_still():
            await self._control.leave(reason)
        end = await self._keeper.close()
        self._settle(end, broken, still)
        seconds = time.monotonic() - began
        last = Ended(self._control.epoch, self._state, self._cause, end.ranks, seconds)
        await self._control.close(last)
        return end

    async def kill(self) -> PoolEnd:
        """At once, and without a word: the orchestrator sees the process end."""
        end = await self._keeper.kill()
        self._settle(end, broken=False, still=True)
        return end

    def _settle(self, end: PoolEnd, broken: bool, still: bool) -> None:
        causes = ["it could not go on"] if broken else []
        causes += [] if still else ["something is still being written"]
        self._state = "failed" if causes else end.state
        self._cause = "; ".join([*causes, str(end)])
        self._life.move(self._state, self._cause)

    async def _is_still(self) -> bool:
        """Whether nothing is written any more, once everything was dropped."""
        try:
            await asyncio.wait_for(self._engine.forget(), LAST_WRITE_S)
        except TimeoutError:
            return False
        return True
