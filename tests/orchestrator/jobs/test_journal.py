"""The journal on a real disk: kills, full disks, flipped bytes, torn ends, two at once.

What concerns no file is tried in PostgreSQL too; see also test_journal_postgres.py.
"""

import asyncio
import contextlib
import random
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.jobs.entries import Attempted, Entry, Forgotten
from orchestrator.jobs.events import WriteFailed, Written
from orchestrator.jobs.folder import StateFolder
from orchestrator.jobs.journal import JournalError
from tests.support.journal_writer import DEADLINE_S, accepted, ended, execute, read, writer

SWAPPED = "UPDATE entries SET checksum = (SELECT checksum FROM entries WHERE seq = 1) WHERE seq = 2"


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'journal.db'}"


async def test_what_was_written_is_read_again_in_order(journal_url: str) -> None:
    wrote: list[Entry] = [accepted(1), Attempted("job_1", 0, 3), accepted(2)]
    async with writer(journal_url) as first:
        assert (first.recovered.entries, first.recovered.life) == ([], 0)
        assert await first.write(*wrote) == [Written(1), Written(2), Written(3)]
        assert first.journal.counters["journal_writes"] == 3
    async with writer(journal_url) as second:
        assert (second.recovered.entries, second.recovered.life) == (wrote, 1)
        await second.write(accepted(3))
    assert read(journal_url) == [*wrote, accepted(3)]


async def test_an_end_takes_the_place_of_all_before_it(journal_url: str) -> None:
    async with writer(journal_url) as journal:
        await journal.write(accepted(1))
        await journal.write(Attempted("job_1", 0, 1), ended(1), accepted(2), accepted(3), ended(3))
        await journal.write(accepted(4), Forgotten("job_2"), Forgotten("job_4"))
    assert read(journal_url) == [ended(1), ended(3)]


async def test_what_waits_is_written_in_one_transaction(tmp_path: Path) -> None:
    async with writer(url_of(tmp_path)) as journal:
        lock = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        with contextlib.closing(lock):
            lock.execute("BEGIN IMMEDIATE")  # the writer waits for us with its first entry
            writing = asyncio.create_task(journal.write(*map(accepted, range(1, 301))))
            await asyncio.sleep(0)
            lock.execute("ROLLBACK")
        assert all(isinstance(each, Written) for each in await writing)
        assert journal.journal.counters["journal_commits"] <= 2
    assert len(read(url_of(tmp_path))) == 300


async def test_another_orchestrator_that_opens_it_fences_the_first(journal_url: str) -> None:
    async with writer(journal_url) as first, writer(journal_url) as second:
        (failed,) = await first.write(accepted(1))
        assert isinstance(failed, WriteFailed)
        assert "taken the journal" in failed.reason
        async with asyncio.timeout(DEADLINE_S):
            await first.lost.wait()
        assert await second.write(accepted(2)) == [Written(1)]
    assert read(journal_url) == [accepted(2)]


async def test_an_entry_that_cannot_be_encoded_costs_only_itself(tmp_path: Path) -> None:
    async with writer(url_of(tmp_path)) as journal:
        broken = Attempted("job_1", 0, object())  # type: ignore[arg-type]
        assert "cannot be encoded" in str(journal.journal.write(99, broken))
        assert await journal.write(accepted(1)) == [Written(1)]


async def test_a_changed_row_is_named_and_the_way_on_works(journal_url: str) -> None:
    async with writer(journal_url) as journal:
        await journal.write(*map(accepted, range(1, 4)))
    execute(journal_url, SWAPPED)
    with pytest.raises(JournalError, match="entry 2 of job job_2: its checksum does not fit") as e:
        read(journal_url)
    remedy = str(e.value).partition("run ")[2].partition(", or begin")[0]
    execute(journal_url, remedy)
    assert read(journal_url) == [accepted(1), accepted(3)]


async def test_a_newer_schema_is_refused(journal_url: str) -> None:
    async with writer(journal_url) as journal:
        await journal.write(accepted(1))
    execute(journal_url, "UPDATE facts SET value = '2' WHERE name = 'schema'")
    with pytest.raises(JournalError, match="schema 2, and this version reads 1"):
        read(journal_url)


# ---------------------------------------------------------------- damage


def _journal_of(folder: Path, count: int) -> Path:
    """A journal of so many jobs, with everything in its one file."""

    async def fill() -> None:
        async with writer(url_of(folder)) as journal:
            await journal.write(*map(accepted, range(1, count + 1)))

    asyncio.run(fill())
    path = folder / "journal.db"
    with contextlib.closing(sqlite3.connect(path)) as direct:
        direct.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def _flips(content: bytes, count: int) -> Iterator[bytes]:
    dice = random.Random(count)
    for _ in range(count):
        place = dice.randrange(len(content))
        yield (
            content[:place]
            + bytes([content[place] ^ (1 << dice.randrange(8))])
            + content[place + 1 :]
        )


def _read_or_refuse(folder: Path) -> list[Entry] | str:
    try:
        return read(url_of(folder))
    except JournalError as error:
        return str(error)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = _journal_of(tmp_path, 40)
    wrote, content = [accepted(n) for n in range(1, 41)], path.read_bytes()
    refused = 0
    for flipped in _flips(content, 60):
        for rest in ("journal.db-wal", "journal.db-shm"):
            (tmp_path / rest).unlink(missing_ok=True)
        path.write_bytes(flipped)
        found = _read_or_refuse(tmp_path)
        refused += isinstance(found, str)
        assert found == wrote or (str(path) in found and "\n" not in found)
    assert refused > 10  # most bytes are rows; the others are free space


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = _journal_of(tmp_path, 200)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(JournalError, match="move it away"):
        read(url_of(tmp_path))


def test_another_kind_of_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"a diary, and none of your business\n" * 100)
    before = path.read_bytes()
    with pytest.raises(JournalError, match="move it away"):
        read(url_of(tmp_path))
    assert path.read_bytes() == before


# ---------------------------------------------------------------- processes


class Process:
    """A writing process, and the jobs whose promise it said to be on disk."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.promised: list[str] = []

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            line = (await self.process.stdout.readline()).decode().strip()
        if line.startswith("job_"):
            self.promised.append(line)
        return line

    async def until(self, start: str) -> str:
        while not (line := await self.line()).startswith(start):
            assert line
        return line

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()
        while await self.line():
            pass

    def lift(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")


@contextlib.asynccontextmanager
async def writing(folder: Path, *arguments: str) -> AsyncIterator[Process]:
    pipe = asyncio.subprocess.PIPE
    words = ("-m", "tests.support.journal_process", str(folder), *arguments)
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe)
    try:
        yield Process(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_nothing_that_was_said_is_lost_by_kills(journal_url: str, tmp_path: Path) -> None:
    promised: list[str] = []
    for life in range(4):
        async with writing(tmp_path, "--journal", journal_url) as process:
            assert await process.line() == f"open {2 * life}"  # reading it was a life too
            for _ in range(30 * (life + 1)):
                await process.until("job_")
            await process.kill()
        promised += process.promised
        there = [entry.job for entry in read(journal_url)]
        assert set(promised) <= set(there)
        assert len(there) - len(promised) <= life + 1  # one at a time may be there unsaid


async def test_a_torn_end_of_the_log_is_cut_off(tmp_path: Path) -> None:
    async with writing(tmp_path) as process:
        for _ in range(20):
            await process.until("job_")
        await process.kill()
    log = tmp_path / "journal.db-wal"
    content = log.read_bytes()
    log.write_bytes(content[:-1000])
    there = [entry.job for entry in read(url_of(tmp_path))]
    assert there == process.promised[: len(there)]
    assert len(there) >= 15


async def test_a_full_disk_refuses_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with writing(tmp_path, "--bytes", "200000") as process:
        failed = await process.until("!")
        assert "full" in failed or "I/O" in failed
        before = list(process.promised)
        assert len(before) > 3
        process.lift()
        await process.until("job_")
        await process.kill()
    there = [entry.job for entry in read(url_of(tmp_path))]
    assert set(process.promised) <= set(there)


async def test_one_folder_has_one_orchestrator(tmp_path: Path) -> None:
    async with writing(tmp_path) as first:
        await first.until("job_")
        async with writing(tmp_path) as second:
            said = await second.line()
        assert f"in use by the orchestrator with pid {first.process.pid}" in said
        await first.kill()
    with StateFolder(str(tmp_path)) as free:
        assert free.media.is_dir()


def test_a_private_folder_is_removed() -> None:
    with StateFolder(None) as folder:
        path = folder.path
        assert (path / "media").is_dir()
    assert not path.exists()
