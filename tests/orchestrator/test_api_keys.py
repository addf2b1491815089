"""The file of API keys: what may stand in it, and how it is kept in step."""

import asyncio
import hashlib
import logging
from pathlib import Path

import pytest

from orchestrator.api_keys import ApiKeys, Owner, hash_of, line_of, new_key, parse
from tests.support.front_door import soon

KEY, OTHER = new_key(), new_key()


def owner(keys: ApiKeys, key: str) -> str | None:
    found = keys.owner(key.encode())
    return found.name if found else None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# who may come in\n\n{line_of(KEY, 'alice')}  # until May\n")
    return path


def test_keys_are_long_and_all_different() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("tk-") and len(key) == 46 for key in keys)


def test_a_hash_is_what_sha256sum_prints() -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    assert hash_of(b"secret") == digest
    assert parse(f"ci:{digest.upper()}\n{digest}") == [
        Owner("ci", digest),
        Owner(digest[:8], digest),
    ]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a#b", "ä", "n" * 65])
def test_a_name_that_would_not_be_read_back_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a key"):
        line_of(KEY, name)


def test_only_keys_in_the_file_come_in(file: Path) -> None:
    keys = ApiKeys(file)
    assert owner(keys, KEY) == "alice"
    for wrong in (OTHER, "", KEY[:-1], KEY + "x", hash_of(KEY.encode())):
        assert owner(keys, wrong) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no key; `triptych apikey` makes one"),
        (b"# nothing\n", "has no key"),
        (b"\nalice:secret\n", "line 2 is neither HASH nor NAME:HASH"),
        (b"a b:" + b"0" * 64, "line 1 is neither"),
        (b"0" * 63, "line 1 is neither"),
        (b"\xff\xfe", "is no text file"),
    ],
)
def test_a_file_that_is_none_stops_the_start(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        ApiKeys(file)
    assert str(file) in str(error.value)
    assert "secret" not in str(error.value)  # somebody wrote a key where its hash belongs


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*No such file"):
        ApiKeys(tmp_path / "none")


async def test_the_file_is_read_again_when_it_changes(file: Path) -> None:
    keys = ApiKeys(file)
    await keys.look()
    assert owner(keys, KEY) == "alice"
    file.write_text(line_of(OTHER, "bob"))
    await keys.look()
    assert (owner(keys, KEY), owner(keys, OTHER)) == (None, "bob")
    file.write_text("# all are revoked\n")
    await keys.look()
    assert owner(keys, OTHER) is None


@pytest.mark.parametrize("slip", ["a typo", None])
async def test_a_slip_locks_nobody_out(
    file: Path, slip: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys(file)
    content = file.read_text()
    if slip is None:
        file.unlink()
    else:
        file.write_text(content + slip)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await keys.look()
    assert owner(keys, KEY) == "alice"
    [record] = caplog.records  # once for each change, not for each look
    assert "the keys that were read before still hold" in record.getMessage()
    file.write_text(f"{content}\n{line_of(OTHER)}")
    await keys.look()
    assert owner(keys, OTHER) is not None


async def test_watching_goes_on(file: Path) -> None:
    keys = ApiKeys(file)
    watching = asyncio.create_task(keys.watch_forever(0.001))
    file.write_text("a typo")
    file.write_text(line_of(OTHER, "bob"))
    await soon(lambda: owner(keys, OTHER) == "bob")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
