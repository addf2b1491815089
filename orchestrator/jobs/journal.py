"""The journal: what was promised, on disk, before anybody is told of it."""

import asyncio
import contextlib
import logging
import queue
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, delete, func, insert, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from orchestrator.jobs.database import connect, hide
from orchestrator.jobs.entries import Ended, Entry, Forgotten
from orchestrator.jobs.events import Recovered, WriteFailed, Written
from orchestrator.jobs.schema import (
    VERSION,
    Damaged,
    Row,
    entries,
    facts,
    metadata,
    to_entry,
    to_row,
)

log = logging.getLogger("orchestrator.journal")

GROUP = 1000  # entries in one transaction

Report = Written | WriteFailed
_Item = tuple[int, Row, Entry]


class JournalError(RuntimeError):
    """The journal cannot be used: what is wrong, where, and how to go on, in one line."""


class Fenced(Exception):
    """Another orchestrator has opened the journal since."""


class Journal:
    """An append-only list of entries in a database: `sqlite:///PATH`, or
    `postgresql://USER@HOST/NAME`. An `Ended` or `Forgotten` takes the place of what was there about
    its job.

    `open` reads everything and fences whoever had it open before; it blocks, so call it in a
    thread. `write` never blocks: one thread writes, and all entries that wait share one
    transaction and one fsync. `report` is called in the event loop in which `start` was called,
    once for each group, in the order of the tickets. `lost` is called there, once, when another
    orchestrator has taken the journal over: nothing can be written any more.

    `counters`: journal_commits, journal_writes, journal_errors.
    """

    def __init__(self, url: str) -> None:
        self.counters: Counter[str] = Counter()
        self.where = hide(url)
        self._database = connect(url)
        self._engine = self._database.engine
        self._owner = secrets.token_hex(16)
        self._seq = 0
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failing = False

    # ------------------------------------------------------------ opening

    def open(self) -> Recovered:
        """Takes the journal over. Raises `JournalError`; nothing was changed then."""
        try:
            if complaint := self._database.complaint():
                raise self._unusable(complaint)
            with self._engine.begin() as connection:
                self._database.take(connection)
                self._check_schema(connection)
                life = self._begin_life(connection)
                return Recovered(self._read(connection), life)
        except (SQLAlchemyError, ValueError) as error:
            raise self._unusable(_reason(error)) from error

    def _check_schema(self, connection: Connection) -> None:
        there = set(inspect(connection).get_table_names())
        if not there & {facts.name, entries.name}:
            metadata.create_all(connection)
            self._state(connection, "schema", str(VERSION))
            return
        found = self._fact(connection, "schema") if facts.name in there else None
        if found != str(VERSION):
            text = f"the journal {self.where} has schema {found}, and this version reads {VERSION}"
            raise JournalError(f"{text}; use the version that wrote it, or another journal")

    def _begin_life(self, connection: Connection) -> int:
        before = self._fact(connection, "life")
        life = 0 if before is None else int(before) + 1
        self._state(connection, "life", str(life))
        self._state(connection, "owner", self._owner)
        return life

    def _read(self, connection: Connection) -> list[Entry]:
        found: list[Entry] = []
        for each in connection.execute(select(entries).order_by(entries.c.seq)):
            row = Row(*each)
            try:
                found.append(to_entry(row))
            except Damaged as damage:
                raise self._damaged(row, damage) from damage
        self._seq = connection.execute(select(func.max(entries.c.seq))).scalar() or 0
        return found

    def _fact(self, connection: Connection, name: str) -> str | None:
        return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar()

    def _state(self, connection: Connection, name: str, value: str) -> None:
        connection.execute(delete(facts).where(facts.c.name == name))
        connection.execute(insert(facts).values(name=name, value=value))

    def _unusable(self, reason: str) -> JournalError:
        return JournalError(
            f"the journal {self.where} cannot be read: {reason}. It was left as it is; "
            f"{self._database.remedy}"
        )

    def _damaged(self, row: Row, damage: Damaged) -> JournalError:
        return JournalError(
            f"the journal {self.where} is damaged: entry {row.seq} of job {row.job}: {damage}. It "
            "was left as it is; to go on without that job run DELETE FROM entries WHERE job = "
            f"(SELECT job FROM entries WHERE seq = {row.seq}), or begin with another journal"
        )

    # ------------------------------------------------------------ writing

    def start(self, report: Callable[[list[Report]], None], lost: Callable[[], None]) -> None:
        """From now on what was and is written goes to disk."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(loop, report, lost), name="journal", daemon=True
        )
        self._thread.start()

    def write(self, ticket: int, entry: Entry) -> str | None:
        """Why the entry can never be written; None if it is on its way."""
        try:
            row = to_row(self._seq + 1, entry)
        except Exception as error:
            return f"it cannot be encoded: {error}"
        self._seq += 1
        self._items.put((ticket, row, entry))
        return None

    def close(self) -> None:
        """Waits until everything has been written. Blocks."""
        if self._thread is not None:
            self._items.put(None)
            self._thread.join()
        self._engine.dispose()

    def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        report: Callable[[list[Report]], None],
        lost: Callable[[], None],
    ) -> None:
        going = True
        while going:
            group, going = self._gather()
            if not group:
                continue
            reports, fenced = self._commit(group)
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(report, reports)
                if fenced:
                    loop.call_soon_threadsafe(lost)
            going = going and not fenced

    def _gather(self) -> tuple[list[_Item], bool]:
        """Everything that waits (at least one entry), and whether more may come."""
        group: list[_Item] = []
        item = self._items.get()
        while item is not None:
            group.append(item)
            if len(group) == GROUP:
                return group, True
            try:
                item = self._items.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _commit(self, group: list[_Item]) -> tuple[list[Report], bool]:
        try:
            with self._engine.begin() as connection:
                self._check_owner(connection)
                _append(connection, group)
        except Exception as error:
            reason = _reason(error)
            self._complain(reason, len(group))
            return [WriteFailed(ticket, reason) for ticket, _, _ in group], isinstance(
                error, Fenced
            )
        self._note(len(group))
        return [Written(ticket) for ticket, _, _ in group], False

    def _check_owner(self, connection: Connection) -> None:
        """From here to the end of the transaction nobody can take the journal over."""
        mine = (facts.c.name == "owner") & (facts.c.value == self._owner)
        if connection.execute(select(facts.c.name).where(mine).with_for_update()).first() is None:
            raise Fenced(f"another orchestrator has taken the journal {self.where} over")

    def _note(self, count: int) -> None:
        self.counters["journal_commits"] += 1
        self.counters["journal_writes"] += count
        if self._failing:
            self._failing = False
            log.warning("the journal %s can be written again", self.where)

    def _complain(self, reason: str, count: int) -> None:
        self.counters["journal_errors"] += count
        if not self._failing:
            self._failing = True
            log.error("the journal %s cannot be written: %s", self.where, reason)


def _append(connection: Connection, group: Sequence[_Item]) -> None:
    """The last entry of a job that has ended replaces what was there, in the group and before."""
    rows: dict[str, list[Row]] = {}
    over: set[str] = set()
    for _, row, entry in group:
        if isinstance(entry, Ended | Forgotten):
            over.add(row.job)
            rows[row.job] = []
        if not isinstance(entry, Forgotten):
            rows.setdefault(row.job, []).append(row)
    if over:
        connection.execute(delete(entries).where(entries.c.job.in_(sorted(over))))
    new = [row._asdict() for of_job in rows.values() for row in of_job]
    if new:
        connection.execute(insert(entries), new)


def _reason(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split()) or type(cause).__name__
