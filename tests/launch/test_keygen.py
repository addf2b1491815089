"""`triptych keygen`, and how --keys reaches the processes."""

import json
from pathlib import Path
from typing import Any

import pytest

from launch.cli import run, serve
from launch.cli.serve import orchestrator_options, role_options
from transfer.keys import FILE, load

END = ["--disagg-role", "orchestrator", "--bind", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0"]


def test_it_makes_a_pair_and_says_what_to_copy_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "keys"
    assert run(["keygen", str(folder)]) == 0
    pair = load(folder)
    out, err = capsys.readouterr()
    assert len(out.strip().splitlines()) == 2
    assert f"scp -pr {folder} HOST:" in out
    assert "--keys DIR" in out
    assert pair.secret.decode() not in out + err


def test_without_a_folder_it_is_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run(["keygen"]) == 0
    assert (tmp_path / "triptych" / "keys" / FILE).exists()


def test_it_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "keys")
    assert run(["keygen", folder]) == 0
    before = load(Path(folder))
    assert run(["keygen", folder]) == 1
    assert "has a key already" in capsys.readouterr().err
    assert load(Path(folder)) == before


@pytest.mark.parametrize("words", [["serve", *END], ["up"]], ids=["serve", "up"])
def test_a_missing_key_ends_with_one_line(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "X"}))
    model = ["--model", str(tmp_path)] if words == ["up"] else []
    assert run([*words, *model, "--keys", str(tmp_path / "none")]) == 1
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("triptych: ")
    assert f"there is no {FILE} in {tmp_path}/none" in line
    assert "triptych keygen" in line


def flags(*words: str) -> dict[str, Any]:
    with serve.make_context("serve", list(words)) as ctx:
        return dict(ctx.params)


def test_the_flag_and_the_file_name_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "X"}))
    (tmp_path / "all.yaml").write_text("keys: /in/the/file\n")
    config = ["--config", str(tmp_path / "all.yaml")]
    front = ["--disagg-role", "orchestrator"]
    role = ["--disagg-role", "encoder", "--model", str(tmp_path)]
    assert orchestrator_options(flags(*front, *config)).keys == "/in/the/file"
    assert role_options(("encoder",), flags(*role, *config)).keys == "/in/the/file"
    assert orchestrator_options(flags(*front, *config, "--keys", "/given")).keys == "/given"
    assert role_options(("encoder",), flags(*role, "--keys", "/given")).keys == "/given"
    assert role_options(("encoder",), flags(*role)).keys is None
