"""Journals in both databases that there are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import Postgres, postgres


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[Postgres]:
    """One server for all tests; nobody stops it."""
    with postgres() as server:
        yield server


@pytest.fixture
def postgres_url(running_postgres: Postgres) -> str:
    """A database of the test's own."""
    return running_postgres.database()


@pytest.fixture(params=["sqlite", "postgresql"])
def journal_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.db'}"
    return str(request.getfixturevalue("postgres_url"))
