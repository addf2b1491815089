import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from launch.cli import run, triptych
from launch.cli.command import Command
from launch.cli.config import read_config
from launch.errors import LaunchError

COMMANDS = ["serve", "up", "generate", "status", "drain", "remove", "apikey"]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    output, errors = capsys.readouterr()
    assert output == ""
    [line] = errors.splitlines()
    assert line.startswith("triptych: ")
    return line


def test_help_and_version_need_nothing_heavy() -> None:
    code = (
        "import sys, launch, launch.cli\n"
        "for words in (['--help'], ['serve', '--help'], ['--version']): launch.cli.run(words)\n"
        "heavy = {'torch', 'diffusers', 'httpx', 'zmq', 'fastapi', 'rich', 'PIL', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert "triptych 0" in done.stdout


def test_without_a_command_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("Usage: triptych")
    assert "explains every flag" not in errors


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_file_is_a_key_of_the_command(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([name, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    example = re.search(r"without their dashes \(([^)]*)\)", text)
    assert example
    file = tmp_path / "flags.yaml"
    file.write_text(example[1])
    command = triptych.commands[name]
    ctx = click.Context(command)
    read_config(ctx, command.params[0], file)
    assert ctx.default_map


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_explained(name: str) -> None:
    command = triptych.commands[name]
    assert command.help
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help, f"{name} --{param.name}"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["fly"], "No such command 'fly'"),
        (["up"], "Missing option '--model'"),
        (["up", "--model", "x", "--encoders", "-1"], "--encoders"),
        (["up", "--model", "x", "--slot-bytes", "many"], "write for example 4096"),
        (["up", "--model", "x", "--wings", "2"], "--wings"),
        (["generate", "p"], "Missing option '-o'"),
        (["generate", "p", "-o", "a.gif"], "give --format"),
        (["generate", "p", "-o", "a.png", "--size", "big"], "WIDTHxHEIGHT"),
        (["status", "--url"], "--url"),
        (["serve"], "--disagg-role"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert part in said(capsys)


def test_other_errors_are_one_line_and_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", "--model", str(tmp_path / "none")]) == 1
    assert "there is no model folder" in said(capsys)
    assert run(["generate", "p", "-o", str(tmp_path / "none" / "a.png")]) == 1
    assert "there is no folder" in said(capsys)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (LaunchError("a clear word"), "triptych: a clear word"),
        (ValueError("odd\nmore"), "triptych: ValueError: odd (--debug shows where)"),
        (KeyError(), "triptych: KeyError (--debug shows where)"),
        (OSError(98, "Address already in use"), "the address is already in use"),
        (PermissionError(13, "no", "/a"), "triptych: /a: Permission denied"),
    ],
)
def test_no_exception_becomes_a_traceback(
    error: Exception,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @click.command(cls=Command)
    def breaks() -> None:
        raise error

    monkeypatch.setitem(triptych.commands, "breaks", breaks)
    assert run(["breaks"]) == 1
    assert line in said(capsys)
    assert run(["breaks", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_no_traceback_either(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command(cls=Command)
    def waits() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(triptych.commands, "waits", waits)
    assert run(["waits"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_went_away_is_not_complained_about() -> None:
    command = f"{sys.executable} -m launch.cli up --help | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
