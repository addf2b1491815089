"""A PostgreSQL server for tests: its own folder, a free port of this machine, no durability."""

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.addresses import free_port
from orchestrator.jobs.database import connect

START_S = 60.0
STOP_S = 60.0
OTHERS = ("postgres", "nobody")  # it refuses to run as root
# The server ends at once when its standard input does, and so with the tests, however they end.
WATCHED = 'exec 3<&0; (cat <&3 >/dev/null; kill -QUIT $$) & exec "$@" 3<&- </dev/null'


def missing() -> str | None:
    """Why no server can be started here."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install 'triptych[postgres]'"
    if _binaries() is None:
        return "PostgreSQL's server is not installed: apt-get install postgresql"
    return None


def _binaries() -> Path | None:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(
        (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        key=lambda folder: int(folder.parent.name),
        default=None,
    )


class Postgres:
    """`start` and `stop` as often as wanted: the data and the port stay."""

    def __init__(self, folder: Path) -> None:
        binaries = _binaries()
        assert binaries is not None
        self._folder, self._binaries = folder, binaries
        self._as = _another_user() if os.getuid() == 0 else None
        if self._as is not None:
            os.chown(folder, self._as, -1)
        self._port = free_port("127.0.0.1")
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._run("initdb", "-D", "data", "-U", "triptych", "-A", "trust", "-N", "-E", "UTF8")

    def start(self) -> None:
        words = [self._binaries / "postgres", "-D", "data", "-F", "-p", str(self._port)]
        words += ["-h", "127.0.0.1", "-k", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", WATCHED, "sh", *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                user=self._as,
            )
        self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self._port), patience_s=START_S)

    def stop(self) -> None:
        """At once, as in a crash."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(STOP_S)
            self._process = None

    def database(self) -> str:
        """The URL of a new one."""
        name = f"journal_{next(self._numbers)}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "triptych", name)
        return f"postgresql://triptych@127.0.0.1:{self._port}/{name}"

    def file_of(self, url: str, table: str) -> Path:
        """Where the server keeps a table."""
        engine = connect(url).engine
        with engine.connect() as connection:
            place = connection.exec_driver_sql(f"SELECT pg_relation_filepath('{table}')").scalar()
        engine.dispose()
        return self._folder / "data" / str(place)

    def _run(self, program: str, *words: str, patience_s: float = 0.0) -> None:
        until = time.monotonic() + patience_s
        while True:
            done = subprocess.run(
                [self._binaries / program, *words],
                cwd=self._folder,
                user=self._as,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                return
            assert time.monotonic() < until, done.stdout + done.stderr
            time.sleep(0.05)


def _another_user() -> int:
    for name in OTHERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    pytest.skip(f"PostgreSQL does not run as root, and none of {', '.join(OTHERS)} is here")


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A server that runs; skips the test where there can be none."""
    if reason := missing():
        pytest.skip(reason)
    # not below pytest's own folder, which another user may not enter
    with tempfile.TemporaryDirectory(prefix="triptych-postgres-", dir="/tmp") as folder:
        server = Postgres(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()
