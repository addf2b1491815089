"""`triptych apikey`: a new key for the front door."""

import os
from pathlib import Path

import click

from launch.cli.command import Command
from launch.errors import LaunchError


@click.command(cls=Command, short_help="Draw an API key for a client.")
@click.option("--name", metavar="NAME", help="Whose key it is; stands in the file before its hash.")
@click.option(
    "--add",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append the line of the key's hash to FILE, the one of --api-keys; made if missing.",
)
def apikey(name: str | None, file: Path | None) -> None:
    """Draw a key, and print it with the line that lets it in. The key itself is kept nowhere.

    \b
    triptych apikey --name alice --add keys
    triptych up --model FOLDER --api-keys keys
    TRIPTYCH_API_KEY=tk-… triptych status
    """
    from orchestrator.api_keys import line_of, new_key

    key = new_key()
    try:
        line = line_of(key, name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if file is None:
        click.echo(f"{key}\n{line}")
        click.echo("the key, shown only now, and its line for the file of --api-keys", err=True)
        return
    _append(file, line)
    click.echo(key)
    click.echo(f"{file} lets it in; it is shown only now", err=True)


def _append(file: Path, line: str) -> None:
    """In one write, so that who reads the file sees the whole line or none."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise LaunchError(f"cannot write {file}: {error.strerror}") from error
    with os.fdopen(descriptor, "r+b", buffering=0) as out:
        size = os.fstat(descriptor).st_size
        whole = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
        out.write(f"{line}\n".encode() if whole else f"\n{line}\n".encode())
