"""Flags from a YAML file: `max-batch: 4` or `max_batch: 4` stands for `--max-batch 4`.

Hidden flags are for the processes that we start ourselves, and no keys.
"""

from pathlib import Path
from typing import Any

import click


def read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Makes what the file says the command's defaults: the command line wins over it."""
    if path is None:
        return
    known = _flags(ctx.command)
    values = {}
    for key, value in _mapping(path).items():
        name = known.get(str(key).replace("_", "-"))
        if name is None:
            flags = ", ".join(sorted(known))
            raise click.UsageError(f"{path}: {ctx.info_name} has no flag {key!r}; it has {flags}")
        values[name] = _words(value)
    ctx.default_map = {**(ctx.default_map or {}), **values}


def _words(value: Any) -> Any:
    """A mapping, {NAME: VALUE}, stands for a flag given several times: --flag NAME=VALUE."""
    return [f"{key}={each}" for key, each in value.items()] if isinstance(value, dict) else value


def _flags(command: click.Command) -> dict[str, str]:
    """Flag without its dashes → name of the parameter."""
    flags = {}
    for param in command.params:
        if not isinstance(param, click.Option) or param.hidden or param.name in (None, "config"):
            continue
        for text in param.opts:
            if text.startswith("--"):
                flags[text.removeprefix("--")] = param.name
    return flags


def _mapping(path: Path) -> dict[Any, Any]:
    import yaml  # not at the top: most calls have no file

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {path}: {error}") from error
    except yaml.YAMLError as error:
        raise click.UsageError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise click.UsageError(f"{path}: expected lines of the form flag: value")
    return content
