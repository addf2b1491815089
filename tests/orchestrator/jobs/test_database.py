"""Which databases a journal may lie in, and what is said of the others."""

import sys

import pytest

from orchestrator.jobs.database import connect, hide


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://a:secret@host/b", "postgresql+asyncpg://a@b/c"]
)
def test_what_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="--journal") as refused:
        connect(url)
    assert "secret" not in str(refused.value)


def test_a_missing_driver_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"--journal .*pip install 'triptych\[postgres\]'") as told:
        connect("postgresql://host/name")
    assert "\n" not in str(told.value)


def test_passwords_are_hidden_wherever_they_stand() -> None:
    url = "postgresql://user:secret@host/name?connect_timeout=3&password=secret&sslmode=require"
    assert hide(url) == (
        "postgresql://user:***@host/name?connect_timeout=3&password=***&sslmode=require"
    )


def test_what_the_url_says_goes_before_what_is_usual() -> None:
    pytest.importorskip("psycopg")
    query = connect("postgres://host/name?connect_timeout=30").engine.url.query
    assert query["connect_timeout"] == "30"
    assert query["tcp_user_timeout"]
