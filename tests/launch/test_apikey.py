"""`triptych apikey`: what it prints lets a client in, and nothing else is kept."""

import stat
from pathlib import Path

import pytest

from launch.cli import run
from orchestrator.api_keys import ApiKeys, parse


def test_a_key_and_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["apikey", "--name", "alice"]) == 0
    output, errors = capsys.readouterr()
    key, line = output.splitlines()
    assert [owner.name for owner in parse(line)] == ["alice"]
    assert key not in line
    assert key not in errors
    file = tmp_path / "keys"
    file.write_text(line)
    assert ApiKeys(file).owner(key.encode())


@pytest.mark.parametrize("before", [None, "", "# ours", "# ours\n"])
def test_a_key_is_added_to_a_file(
    before: str | None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    if before is not None:
        file.write_text(before)
    keys = []
    for name in ("alice", "bob"):
        assert run(["apikey", "--name", name, "--add", str(file)]) == 0
        keys += capsys.readouterr().out.splitlines()
    owners = [ApiKeys(file).owner(key.encode()) for key in keys]
    assert [owner and owner.name for owner in owners] == ["alice", "bob"]
    if before is None:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    else:
        assert file.read_text().startswith(before)


def test_a_name_that_cannot_stand_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apikey", "--name", "a:b"]) == 2
    assert "'a:b' is no name of a key" in capsys.readouterr().err


def test_a_file_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["apikey", "--add", str(tmp_path / "none" / "keys")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "No such file" in line
