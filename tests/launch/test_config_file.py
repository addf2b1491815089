import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from launch.cli.command import Command
from launch.cli.values import BYTES, TCP_LIST


@click.command(cls=Command)
@click.option("--max-batch", type=int, default=1)
@click.option("--slot-bytes", type=BYTES)
@click.option("--encoders", type=TCP_LIST)
@click.option("--disagg-role", "roles", required=True)
@click.option("--exact", is_flag=True)
@click.option("--parent-pid", type=int, hidden=True)
@click.pass_context
def example(ctx: click.Context, **flags: Any) -> None:
    click.echo(json.dumps(flags))


def outcome(folder: Path, text: str, *words: str) -> tuple[int, str]:
    file = folder / "flags.yaml"
    file.write_text(text)
    result = CliRunner().invoke(example, ["--config", str(file), *words])
    return result.exit_code, result.output


def flags(folder: Path, text: str, *words: str) -> dict[str, Any]:
    code, output = outcome(folder, text, *words)
    assert code == 0, output
    read: dict[str, Any] = json.loads(output)
    return read


def test_a_file_gives_flags_in_both_spellings(tmp_path: Path) -> None:
    text = "max-batch: 4\nslot_bytes: 1MiB\ndisagg-role: encoder\nexact: true\n"
    read = flags(tmp_path, text)
    assert read["max_batch"] == 4
    assert read["slot_bytes"] == 1 << 20
    assert (read["roles"], read["exact"]) == ("encoder", True)


def test_numbers_and_lists_may_stand_as_yaml_has_them(tmp_path: Path) -> None:
    text = "disagg-role: x\nslot-bytes: 4096\nencoders: ['tcp://a:1', 'tcp://b:2']\n"
    read = flags(tmp_path, text)
    assert read["slot_bytes"] == 4096
    assert read["encoders"] == ["tcp://a:1", "tcp://b:2"]


@pytest.mark.parametrize("first", [True, False])
def test_the_command_line_wins(tmp_path: Path, first: bool) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text("max-batch: 4\ndisagg-role: x")
    words = ["--config", str(file)]
    given = ["--max-batch", "2"]
    result = CliRunner().invoke(example, words + given if first else given + words)
    assert '"max_batch": 2' in result.output


def test_debug_may_stand_in_the_file(tmp_path: Path) -> None:
    @click.command(cls=Command)
    def breaks() -> None:
        raise KeyError

    file = tmp_path / "flags.yaml"
    file.write_text("debug: true")
    result = CliRunner().invoke(breaks, ["--config", str(file)])
    assert "Traceback" in result.output


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert flags(tmp_path, "", "--disagg-role", "x")["max_batch"] == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("max-bach: 4", "has no flag 'max-bach'; it has"),
        ("config: other.yaml", "has no flag 'config'"),
        ("parent-pid: 1", "has no flag 'parent-pid'; it has debug, disagg-role, enc"),
        ("7: x", "has no flag 7"),
        ("- a\n- b", "expected lines of the form flag: value"),
        ("a: [", "is no YAML"),
        ("\0", "is no YAML"),
        ("max-batch: many\ndisagg-role: x", "many"),
        ("slot-bytes: lots\ndisagg-role: x", "write for example 4096"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, text: str, part: str) -> None:
    code, output = outcome(tmp_path, text)
    assert code == 2
    assert part in output.splitlines()[-1]
    assert "Traceback" not in output


def test_a_missing_file_is_named() -> None:
    result = CliRunner().invoke(example, ["--config", "none.yaml"])
    assert result.exit_code == 2
    assert "none.yaml" in result.output
