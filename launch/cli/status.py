"""`triptych status`: what runs, and how busy it is."""

import json
from typing import TYPE_CHECKING, Any

import click

from launch.cli.command import Command
from launch.cli.flags import url_flag

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("role", "instance", "epoch", "state", "in flight", "slots")
WIDE_COLUMNS = ("ranks", "host")  # these wrap where the terminal is narrow
_COLOURS = {"ready": "green", "failed": "red", "divergent": "red", "dead": "red"}


@click.command(cls=Command)
@url_flag
@click.option("--json", "as_json", is_flag=True, help="Print GET /v1/cluster as it is.")
def status(url: str, api_key: str | None, as_json: bool) -> None:
    """Show the cluster's instances by model and role, and its requests.

    In flight: requests of how many that it takes. Slots: leased of all that it has, and in red
    those in quarantine. Ranks: their process ids and states. Hosts: a column if they differ.
    Runner: autoregressive is that of encoders that may write a prompt first, token by token.
    """
    from launch.client import Client

    with Client(url, 30, api_key) as client:
        view = client.cluster()
    if as_json:
        click.echo(json.dumps(view, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape

    hosts = sorted({each["host"] for instances in view["roles"].values() for each in instances})
    console = Console()
    wide = WIDE_COLUMNS if len(hosts) > 1 else ("ranks",)
    models = view.get("models", {})
    for name, model in models.items() if len(models) > 1 else ():
        console.print(_heading(name, model), highlight=False)
        console.print(_table(_of(name, view["roles"]), wide))
        console.print(f"runner: {_runners(_of(name, view['roles']))}", highlight=False)
        console.print(f"requests: {_requests(model['requests'])}\n", highlight=False)
    if len(models) < 2:
        console.print(_table(view["roles"], wide))
        console.print()
    if len(hosts) == 1:
        console.print(f"host: {hosts[0]}", highlight=False)
    if len(models) < 2:
        for name in models:
            console.print(f"model: {escape(name)}", highlight=False)
        console.print(f"runner: {_runners(view['roles'])}", highlight=False)
    console.print(f"requests: {_requests(view['requests'])}", highlight=False)


def _heading(name: str, model: dict[str, Any]) -> str:
    from rich.markup import escape

    lacking = f"[yellow]lacks {', '.join(model['missing'])}[/]"
    return f"model [bold]{escape(name)}[/]: {'ready' if model['ready'] else lacking}"


def _of(model: str, roles: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {role: [x for x in there if x["model"] == model] for role, there in roles.items()}


def _table(roles: dict[str, list[dict[str, Any]]], wide: tuple[str, ...]) -> "Table":
    from rich.table import Column, Table

    narrow = (Column(name, no_wrap=True) for name in COLUMNS)
    wrapping = (Column(name, overflow="fold") for name in wide)
    table = Table(*narrow, *wrapping, box=None, pad_edge=False)
    whole = bool(roles.get("monolithic"))  # then the other roles are not missed
    for role, instances in roles.items():
        for instance in instances:
            table.add_row(role, *_row(instance)[: len(table.columns) - 1])
        if not instances and (role == "monolithic") == whole:
            table.add_row(role, "[yellow]none[/]")
    return table


def _row(instance: dict[str, Any]) -> list[str]:
    slots = instance["slots"]
    quarantined = f" [red]+{slots['quarantined']}[/]" if slots["quarantined"] else ""
    ranks = ", ".join(f"{rank['pid']} {_state(rank['state'])}" for rank in instance["ranks"])
    return [
        instance["name"],
        str(instance["epoch"]),
        _state(instance["state"]) + _warmed(instance.get("warmed")) + _health(instance),
        f"{instance['in_flight']}/{instance['capacity']}",
        f"{slots['leased']}/{slots['total']}{quarantined}",
        ranks,
        instance["host"],
    ]


def _runners(roles: dict[str, list[dict[str, Any]]]) -> str:
    named = {role: each[0].get("runner", "diffusion") for role, each in roles.items() if each}
    return ", ".join(f"{role} {runner}" for role, runner in named.items()) or "none"


def _state(state: str) -> str:
    return f"[{_COLOURS[state]}]{state}[/]" if state in _COLOURS else state


def _warmed(warmed: list[int] | None) -> str:
    return "" if warmed is None else f" {warmed[0]}/{warmed[1]}"


def _health(instance: dict[str, Any]) -> str:
    """Of one that should be: others are not, and their state says why."""
    sick = instance["state"] == "ready" and instance.get("healthy") is False
    return " [red]unhealthy[/]" if sick else ""


def _requests(counters: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counters.items())
