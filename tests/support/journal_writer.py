"""A journal in the test's own process, one entry after another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from orchestrator.jobs.database import connect
from orchestrator.jobs.entries import Accepted, Ended, Entry
from orchestrator.jobs.events import WriteFailed, Written
from orchestrator.jobs.journal import Journal
from orchestrator.jobs.model import Idempotency, JobProgress, StoredFile
from tests.support.simulated_desk import TIMINGS, spec
from transfer.made import ImageMade

DEADLINE_S = 60.0


def accepted(number: int) -> Accepted:
    return Accepted(f"job_{number}", number, 1.5, spec(), Idempotency(f"key {number}", b"\xff\x00"))


def ended(number: int) -> Ended:
    described, files = spec().described, [StoredFile("state:a", ImageMade(64, 64), "image/png", 7)]
    facts = (f"job_{number}", number, 1.5, 2.5, "completed", described, JobProgress(), 1)
    return Ended(*facts, timings=TIMINGS, files=files)


class Writer:
    def __init__(self, url: str) -> None:
        self.journal = Journal(url)
        self.recovered = self.journal.open()
        self.lost = asyncio.Event()
        self._reports: asyncio.Queue[Written | WriteFailed] = asyncio.Queue()
        self._tickets = 0
        self.journal.start(self._report, self.lost.set)

    def _report(self, reports: list[Written | WriteFailed]) -> None:
        for each in reports:
            self._reports.put_nowait(each)

    async def write(self, *entries: Entry) -> list[Written | WriteFailed]:
        for entry in entries:
            self._tickets += 1
            assert self.journal.write(self._tickets, entry) is None
        async with asyncio.timeout(DEADLINE_S):
            return [await self._reports.get() for _ in entries]


@contextlib.asynccontextmanager
async def writer(url: str) -> AsyncIterator[Writer]:
    made = Writer(url)
    try:
        yield made
    finally:
        made.journal.close()


def read(url: str) -> list[Entry]:
    journal = Journal(url)
    try:
        return journal.open().entries
    finally:
        journal.close()


def execute(url: str, statement: str) -> None:
    """By somebody else than the journal."""
    engine = connect(url).engine
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
