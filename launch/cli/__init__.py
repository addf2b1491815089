"""The command line: `triptych serve | up | generate | models | status | drain | remove |
keygen | apikey`.

Each subcommand stands in a file of its own. What they run is imported when they run, so that
`triptych --help` is instant.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from launch.cli.apikey import apikey
from launch.cli.generate import generate
from launch.cli.instances import drain, remove
from launch.cli.keygen import keygen
from launch.cli.models import models
from launch.cli.serve import serve
from launch.cli.status import status
from launch.cli.up import up
from launch.errors import LaunchError

USAGE_ERROR = 2


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: triptych up --model FOLDER, then triptych generate PROMPT -o FILE.",
)
@click.version_option(package_name="triptych", message="triptych %(version)s")
def triptych() -> None:
    """Serve diffusion models as encoder, denoiser and decoder processes behind one orchestrator."""


for command in (serve, up, generate, models, status, drain, remove, keygen, apikey):
    triptych.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code: 2 for wrong usage, 1 for other errors."""
    try:
        result = triptych.main(arguments, prog_name="triptych", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE_ERROR
    except click.UsageError as error:
        return _complain(_usage(error), USAGE_ERROR)
    except click.ClickException as error:
        return _complain(error.format_message(), 1)
    except LaunchError as error:
        return _complain(str(error), 1)
    except click.Abort:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()  # who read our output is gone; nor would anyone read complaints
        return 1
    return result if isinstance(result, int) else 0


def main() -> NoReturn:
    sys.exit(run())


def _usage(error: click.UsageError) -> str:
    if error.ctx is None:
        return error.format_message()
    told = "lists the commands" if error.ctx.parent is None else "explains every flag"
    return f"{error.format_message()} ({error.ctx.command_path} --help {told})"


def _complain(message: str, code: int) -> int:
    click.echo(f"triptych: {message}", err=True)
    return code
