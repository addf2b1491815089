"""`triptych keygen`: the key pair of a new cluster."""

from pathlib import Path

import click

from launch.errors import LaunchError


@click.command(short_help="Make the key pair of a cluster of several hosts.")
@click.argument(
    "folder", type=click.Path(file_okay=False, path_type=Path), metavar="[DIR]", required=False
)
def keygen(folder: Path | None) -> None:
    """Make the key pair of a new cluster in the folder DIR, which is made too.

    Whoever has it belongs to the cluster: its orchestrator and roles let nobody else in. On one
    machine none has to be made: processes of the same user share one in the user's state folder,
    which is also where it goes without DIR. Across hosts, make one and copy the folder.

    \b
    triptych keygen ./keys
    scp -pr ./keys gpu1:
    """
    from transfer.errors import KeysError
    from transfer.keys import default_folder, make

    try:
        made = make(folder or default_folder()).folder
    except KeysError as error:
        raise LaunchError(str(error)) from error
    click.echo(
        f"Copy {made} to every host of the cluster, for one user to read (scp -pr {made} HOST:),\n"
        f"and start every process with --keys DIR, or with TRIPTYCH_KEYS=DIR in its environment."
    )
