"""The journal in PostgreSQL: servers that go and come back, owners that stop, several at once."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from orchestrator.jobs import database
from orchestrator.jobs.database import connect
from orchestrator.jobs.entries import Entry
from orchestrator.jobs.events import WriteFailed, Written
from orchestrator.jobs.journal import Journal, JournalError
from tests.support.house import house
from tests.support.journal_writer import accepted, execute, read, writer
from tests.support.picture_dealer import pixels
from tests.support.postgres import Postgres, postgres

# ---------------------------------------------------------------- the server stops


@pytest.fixture(scope="module")
def mortal() -> Iterator[Postgres]:
    """A server that tests may stop. They leave it running."""
    with postgres() as server:
        yield server


async def test_what_cannot_be_written_is_told_and_goes_on_when_it_is_back(mortal: Postgres) -> None:
    url = mortal.database()
    async with writer(url) as journal:
        assert await journal.write(accepted(1)) == [Written(1)]
        mortal.stop()
        failed = await journal.write(accepted(2), accepted(3))
        mortal.start()
        assert all(isinstance(each, WriteFailed) and each.reason.isprintable() for each in failed)
        assert await journal.write(accepted(4)) == [Written(4)]
    assert read(url) == [accepted(1), accepted(4)]


async def test_a_restart_between_two_entries_costs_none(mortal: Postgres) -> None:
    url = mortal.database()
    async with writer(url) as journal:
        assert await journal.write(accepted(1)) == [Written(1)]
        mortal.stop()
        mortal.start()
        assert await journal.write(accepted(2)) == [Written(2)]
    assert read(url) == [accepted(1), accepted(2)]


async def test_a_changed_byte_in_its_files_is_noticed(mortal: Postgres) -> None:
    url = mortal.database()
    async with writer(url) as journal:
        await journal.write(accepted(1), accepted(2))
    execute(url, "CHECKPOINT")
    path = mortal.file_of(url, "entries")
    mortal.stop()
    content = path.read_bytes()
    assert content.count(b'"key 2"') == 1
    path.write_bytes(content.replace(b'"key 2"', b'"key 3"'))
    mortal.start()
    with pytest.raises(JournalError, match="entry 2 of job job_2: its checksum does not fit"):
        read(url)


async def test_an_orchestrator_tells_its_clients_and_goes_on(
    mortal: Postgres, tmp_path: Path
) -> None:
    async with house(tmp_path, journal=mortal.database()) as it:
        it.roles.denoiser.idle = True
        jobs = {1: await it.ask(1)}
        await it.stage(jobs[1], "denoiser")
        mortal.stop()
        reply = await it.client.post("/v1/jobs", json={"prompt": "a red circle", "seed": 2})
        assert reply.status_code == 503
        assert reply.json()["error"]["code"] == "journal_down"
        mortal.start()
        while (reply := await it.client.post("/v1/jobs", json={"prompt": "a", "seed": 2})).is_error:
            assert reply.json()["error"]["code"] == "journal_down"
            await asyncio.sleep(0.05)
        jobs[2] = reply.json()["id"]
        await it.process.kill()
        it.roles.denoiser.idle = False
        await it.process.start()
        for seed, id in jobs.items():
            assert (await it.over(id))["status"] == "completed"
            assert await it.content(id) == pixels(seed)


def test_a_server_that_is_not_there_is_told_in_one_line(mortal: Postgres) -> None:
    url = mortal.database().replace("triptych@", "triptych:secret@")
    mortal.stop()
    try:
        with pytest.raises(JournalError, match=r"refused.*then start again") as told:
            read(url)
    finally:
        mortal.start()
    assert str(told.value).isprintable()
    assert "secret" not in str(told.value)


# ---------------------------------------------------------------- owners


def test_of_those_who_open_it_at_once_each_has_a_life_of_its_own(postgres_url: str) -> None:
    """The tables are made once, and the last one owns it."""
    count = 6
    together = threading.Barrier(count)

    def open_it() -> int:
        journal = Journal(postgres_url)
        together.wait()
        try:
            return journal.open().life
        finally:
            journal.close()

    with ThreadPoolExecutor(count) as pool:
        lives = [each.result() for each in [pool.submit(open_it) for _ in range(count)]]
    assert sorted(lives) == list(range(count))


async def test_an_owner_that_stops_in_the_middle_of_a_write_holds_up_nobody_for_ever(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "STOPPED_S", 1)
    wrote: list[Entry] = [accepted(1)]
    async with writer(postgres_url) as first:
        await first.write(*wrote)
    stopped = connect(postgres_url).engine.connect()
    stopped.exec_driver_sql("SELECT * FROM facts WHERE name = 'owner' FOR UPDATE")
    stopped.exec_driver_sql("DELETE FROM entries")
    assert await asyncio.to_thread(read, postgres_url) == wrote
    with pytest.raises(DBAPIError):
        stopped.exec_driver_sql("SELECT 1")
    stopped.invalidate()
    stopped.close()
    stopped.engine.dispose()


# ---------------------------------------------------------------- durability


def test_a_commit_is_on_disk_even_where_the_database_would_not_wait(postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    execute(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    engine = connect(postgres_url).engine
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    engine.dispose()


def test_a_server_that_does_not_sync_is_told_of(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "orchestrator.journal"):
        read(postgres_url)
    assert "fsync off" in caplog.text  # as this one runs
