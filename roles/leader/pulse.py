"""Whether the ranks still compute: because they did lately, or because they pass a self-test."""

import asyncio
import logging
from collections.abc import Callable

from roles.leader.door import Door

log = logging.getLogger(__name__)

SELF_TEST_S = 30.0  # after the last proof, while there is nothing to do
OVERDUE_S = 30.0  # a test that takes longer; those of a device that works take milliseconds
LOOKS = 10  # in SELF_TEST_S


class Pulse:
    """An instance is `healthy` only if all its ranks computed something lately, or passed a test.

    Every unit of work is a proof, so ranks that are busy are asked nothing. Those that are
    `at_rest` test themselves when the last proof is old (`roles.rank.health`): something small,
    whose result is known. Who fails the test has a device that computes wrongly or not at all, and
    all ranks are started anew; who does not answer is hung, and is given up as if amid a unit of
    work. Until then the orchestrator gives an instance nothing that is not healthy.
    """

    def __init__(self, door: Door, at_rest: Callable[[], bool]) -> None:
        self._door = door
        self._at_rest = at_rest
        self._asked_at: float | None = None

    @property
    def healthy(self) -> bool:
        """Of ranks that are there; those that come next are proved before they are ready."""
        return self._asked_at is None or _now() - self._asked_at < OVERDUE_S

    async def run(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(SELF_TEST_S / LOOKS)
            if self._at_rest() and _now() - self._door.proved_at > SELF_TEST_S:
                await self._test()

    async def _test(self) -> None:
        self._asked_at = _now()
        try:
            result = await self._door.prove()
        finally:
            self._asked_at = None
        if result.ok or result.lost or not result.results:
            return
        worst = result.failures[0]
        assert worst.error is not None
        if worst.error.traceback is not None:
            log.error("%s", worst.error.traceback)
        cause = f"did not pass its self-test: {worst.error.type}: {worst.error.message}"
        self._door.condemn(worst.rank, cause)


def _now() -> float:
    return asyncio.get_running_loop().time()
