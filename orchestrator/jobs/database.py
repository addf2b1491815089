"""The databases that a journal may lie in, and what differs between them."""

import logging
import re
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

log = logging.getLogger("orchestrator.journal")

BUSY_S = 5  # a reader from outside may hold SQLite's file for a moment
STOPPED_S = 10  # PostgreSQL ends a transaction whose orchestrator has stopped in the middle of it
LOCKED_S = 2 * STOPPED_S  # and so long a new one waits for the old one's transaction
OPENING = 0x54726970  # the number of the advisory lock of whoever opens a journal ("Trip")
# A server whose host has vanished is given up within seconds. What the URL says goes first.
LINE = {
    "application_name": "triptych",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


class Database(Protocol):
    """`engine` is one whose commits are on disk when they return. `remedy`: what to do when the
    journal cannot be read."""

    engine: Engine
    remedy: str

    def complaint(self) -> str | None:
        """What is wrong with what lies there, if that can be told before it is read."""

    def take(self, connection: Connection) -> None:
        """Lets nobody else open the journal until the transaction has ended."""


def connect(url: str) -> Database:
    """Raises ValueError for a URL that is none, or whose database or driver there is not. Nothing
    is connected yet."""
    try:
        parsed = make_url(url)
        kind = _KINDS.get(parsed.drivername)
        if kind is None:
            known = "sqlite:///PATH or postgresql://USER@HOST/NAME"
            raise ValueError(f"--journal {hide(url)}: it may be {known}")
        return kind(parsed)
    except (ArgumentError, ImportError) as error:
        raise ValueError(f"--journal {hide(url)}: {error}") from error


def hide(url: str) -> str:
    """The URL without its password, for people."""
    url = re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", url)


class Sqlite:
    """One file. It finds torn and flipped pages by itself; a torn end of its log was never
    acknowledged, and is cut off by itself."""

    remedy = (
        "move it away (with its -wal and -shm files) or put a copy in its place, then start again"
    )

    def __init__(self, url: URL) -> None:
        self.engine = create_engine(url)
        event.listen(self.engine, "connect", _prepare_sqlite)
        event.listen(
            self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
        )

    def complaint(self) -> str | None:
        with self.engine.connect() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        return None if found == "ok" else " ".join(str(found).split())

    def take(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has done that."""


class Postgresql:
    """A server, which answers for its own pages; rows have their checksums as everywhere.

    A connection is tried before each transaction (`pool_pre_ping`): one that broke since the last
    costs nothing then. Sessions wait for the disk even where the server is set not to.
    """

    remedy = "mend that in the database, or name another one, then start again"

    def __init__(self, url: URL) -> None:
        url = url.set(drivername="postgresql+psycopg", query={**LINE, **url.query})
        try:
            self.engine = create_engine(url, isolation_level="READ COMMITTED", pool_pre_ping=True)
        except ImportError as error:
            text = "PostgreSQL's driver is missing; pip install 'triptych[postgres]'"
            raise ImportError(f"{text} ({error})") from error
        event.listen(self.engine, "connect", _prepare_postgresql)

    def complaint(self) -> str | None:
        with self.engine.connect() as connection:
            off = connection.exec_driver_sql(
                "SELECT name FROM pg_settings WHERE setting = 'off'"
                " AND name IN ('fsync', 'full_page_writes')"
            )
            for (name,) in off:
                log.warning("PostgreSQL runs with %s off: a crash of its host loses jobs", name)
        return None

    def take(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({OPENING})")


_KINDS: dict[str, type[Sqlite] | type[Postgresql]] = {
    "sqlite": Sqlite,
    "sqlite+pysqlite": Sqlite,
    "postgres": Postgresql,
    "postgresql": Postgresql,
    "postgresql+psycopg": Postgresql,
}


def _prepare_sqlite(connection: object, record: object) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # we say BEGIN ourselves
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA cell_size_check = ON")
    cursor.close()


def _prepare_postgresql(connection: object, record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{STOPPED_S}s'")
    cursor.execute(f"SET lock_timeout = '{LOCKED_S}s'")
    cursor.close()
    connection.commit()  # type: ignore[attr-defined]
