"""The cluster's key pair: made once, safe, found again."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from zmq.auth import load_certificate

from transfer import keys
from transfer.errors import KeysError
from transfer.keys import FILE, cluster_keys, default_folder, load, make


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pair_is_made_and_found_again(tmp_path: Path) -> None:
    made = make(tmp_path / "a" / "keys")
    assert load(tmp_path / "a" / "keys") == made
    assert zmq.curve_public(made.secret) == made.public
    assert load_certificate(made.folder / FILE) == (made.public, made.secret)
    assert (mode(made.folder), mode(made.folder / FILE)) == (0o700, 0o600)
    assert os.listdir(made.folder) == [FILE]


def test_no_two_pairs_are_the_same(tmp_path: Path) -> None:
    assert make(tmp_path / "a").secret != make(tmp_path / "b").secret


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_umask_opens_nothing(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = make(tmp_path / "keys")
    finally:
        os.umask(before)
    assert (mode(made.folder), mode(made.folder / FILE)) == (0o700, 0o600)


def test_an_empty_folder_of_the_user_s_is_closed(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    assert mode(make(tmp_path / "keys").folder) == 0o700


def test_a_folder_with_other_things_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(KeysError, match=r"open to other users \(mode 0755\): chmod 700"):
        make(tmp_path)
    assert mode(tmp_path) == 0o755
    assert os.listdir(tmp_path) == ["notes"]


def test_a_second_pair_is_not_made(tmp_path: Path) -> None:
    made = make(tmp_path / "keys")
    with pytest.raises(KeysError, match="has a key already"):
        make(tmp_path / "keys")
    assert load(tmp_path / "keys") == made


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o622])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, bits: int) -> None:
    path = make(tmp_path / "keys").folder / FILE
    path.chmod(bits)
    with pytest.raises(KeysError, match=f"mode {bits:04o}.: chmod 600 {path}"):
        load(tmp_path / "keys")


@pytest.mark.parametrize("bits", [0o755, 0o750, 0o770, 0o777])
def test_a_folder_that_others_can_open_is_refused(tmp_path: Path, bits: int) -> None:
    folder = make(tmp_path / "keys").folder
    folder.chmod(bits)
    with pytest.raises(KeysError, match=f"mode {bits:04o}.: chmod 700 {folder}"):
        load(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", [".", FILE])
def test_what_belongs_to_another_user_is_refused(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "keys").folder
    os.chown(folder / name, 12345, -1)
    with pytest.raises(KeysError, match=r"belongs to another user \(uid 12345\)"):
        load(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        'public-key = "x"\n',
        'public-key = "x"\nsecret-key = "y"\n',
        f'public-key = "{"0" * 40}"\nsecret-key = "{"1" * 40}"\n',
    ],
    ids=["empty", "nonsense", "half", "short", "of two pairs"],
)
def test_a_broken_file_is_refused_with_the_remedy(tmp_path: Path, text: str) -> None:
    folder = make(tmp_path / "keys").folder
    (folder / FILE).write_text(text)
    with pytest.raises(KeysError, match=r"holds no key pair.*copy it again"):
        load(folder)


def test_a_folder_that_was_named_has_to_hold_a_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeysError, match=f"there is no {FILE} in {tmp_path}.*triptych keygen"):
        cluster_keys(tmp_path)
    monkeypatch.setenv(keys.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(KeysError, match=f"{tmp_path}/none"):
        cluster_keys()
    assert os.listdir(tmp_path) == []


def test_the_flag_wins_over_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    monkeypatch.setenv(keys.VARIABLE, str(one.folder))
    assert cluster_keys() == one
    assert cluster_keys(other.folder) == other


def test_without_a_name_they_lie_in_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(keys.VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = cluster_keys()
    assert made.folder == default_folder() == tmp_path / "triptych" / "keys"
    assert cluster_keys() == made


def test_a_folder_that_cannot_be_made_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv(keys.VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(KeysError, match="name another folder with --keys or TRIPTYCH_KEYS"):
        cluster_keys()


def test_processes_that_start_together_find_one_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(keys.VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    # each says that it is there, and all begin when the pipe is closed
    script = (
        "import sys; from transfer.keys import cluster_keys; print(flush=True); "
        "sys.stdin.read(); print(cluster_keys().public.decode())"
    )
    argv = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    started = [subprocess.Popen(argv, text=True, **pipes) for _ in range(8)]  # type: ignore[call-overload]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.close()
        process.stdin = None
    told = {process.communicate()[0] for process in started}
    assert told == {load(default_folder()).public.decode() + "\n"}
    assert os.listdir(default_folder()) == [FILE]


def test_of_several_makers_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other was between looking and making when the first one was done."""
    first = make(tmp_path / "triptych" / "keys")
    monkeypatch.delenv(keys.VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(keys, "_exists", lambda path: not path.name.startswith(FILE) or seen())
    looked: list[bool] = []

    def seen() -> bool:
        looked.append(True)
        return len(looked) > 1

    assert cluster_keys() == first


def test_the_secret_is_in_no_log(tmp_path: Path) -> None:
    made = make(tmp_path / "keys")
    assert made.secret.decode() not in f"{made} {made!r}"


def test_a_mount_that_nobody_can_write_to_keeps_its_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets of Kubernetes: a folder that looks open to all, on a read-only file system."""
    made = make(tmp_path / "keys")
    made.folder.chmod(0o1777)
    writable = os.statvfs(made.folder)
    frozen = os.statvfs_result((*tuple(writable)[:8], os.ST_RDONLY, writable.f_namemax))
    monkeypatch.setattr(os, "statvfs", lambda _: frozen)
    assert load(made.folder) == made
    (made.folder / FILE).chmod(0o644)
    with pytest.raises(KeysError, match="chmod 600"):
        load(made.folder)
