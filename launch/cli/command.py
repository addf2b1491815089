"""What all subcommands have in common: --config, --debug, and errors of one line."""

import traceback
from pathlib import Path
from typing import Any

import click

from launch.addresses import DEFAULT_URL
from launch.cli.config import read_config
from launch.errors import LaunchError, explain


class Command(click.Command):
    """A subcommand. Whatever goes wrong in it becomes a `LaunchError`; --debug shows from where."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [_config(self._example()), _debug()]

    def _example(self) -> str:
        """A line of a file that this command takes."""
        names = {param.name for param in self.params}
        examples = {"max_batch": "max-batch: 4", "url": f"url: {DEFAULT_URL}"}
        known = (example for name, example in examples.items() if name in names)
        return next(known, "debug: true")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.meta.get("debug"):
                traceback.print_exc()
            if isinstance(error, LaunchError):
                raise
            raise LaunchError(f"{explain(error)} (--debug shows where)") from error


def _config(example: str) -> click.Option:
    return click.Option(
        ["--config"],
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=read_config,
        help=f"YAML file with flags of this command, without their dashes ({example}). "
        "The command line wins over it.",
    )


def _debug() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta["debug"] = value

    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=remember,
        help="On an error, show where in the code it happened.",
    )
