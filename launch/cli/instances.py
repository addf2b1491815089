"""`triptych drain` and `triptych remove`: an instance leaves the cluster."""

import click

from launch.cli.command import Command
from launch.cli.flags import url_flag


@click.command(cls=Command, short_help="Let an instance finish its work and leave.")
@click.argument("name")
@url_flag
def drain(name: str, url: str, api_key: str | None) -> None:
    """Give the instance NAME no more work; it finishes what it has, and leaves."""
    from launch.client import Client

    with Client(url, 30, api_key) as client:
        client.drain(name)
    click.echo(f"{name} is draining")


@click.command(cls=Command, short_help="Remove an instance now.")
@click.argument("name")
@url_flag
def remove(name: str, url: str, api_key: str | None) -> None:
    """Remove the instance NAME now; what it is working on fails or moves on."""
    from launch.client import Client

    with Client(url, 30, api_key) as client:
        client.remove(name)
    click.echo(f"{name} is removed")
