"""docs/serving.md has the flags of `serve` and of `up`, and no others."""

import re
from pathlib import Path

import click
import pytest

from launch.cli.serve import serve
from launch.cli.up import up

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
OF_ALL = {"--config", "--debug"}  # told beside the tables


def section(title: str) -> str:
    return re.split(r"^#{2,3} ", PAGE.partition(f"### `triptych {title}`")[2], flags=re.MULTILINE)[
        0
    ]


@pytest.mark.parametrize("command", [serve, up], ids=lambda command: str(command.name))
def test_every_flag_is_documented(command: click.Command) -> None:
    there = {
        flag
        for each in command.params
        if isinstance(each, click.Option) and not each.hidden
        for flag in each.opts
        if flag.startswith("--")
    }
    told = set(re.findall(r"--[a-z][a-z-]+", section(str(command.name))))
    assert told - OF_ALL == there - OF_ALL
    assert all(f"`{flag}" in PAGE for flag in OF_ALL)
