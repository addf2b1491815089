"""`triptych models`: what a model supports, before it is served."""

from typing import TYPE_CHECKING, Any

import click

from launch.cli.command import Command
from launch.cli.origins import origin_flags
from launch.errors import LaunchError
from launch.model import settle
from launch.origins import origins_of

if TYPE_CHECKING:
    from rich.console import Console

    from roles.split.survey import Component, Crossing, Survey

DTYPES = ["auto", "float32", "bfloat16", "float16"]
ROLES = ("encoder", "denoiser", "decoder")


@click.command(cls=Command, short_help="Show what a model supports.")
@click.argument("model", metavar="MODEL")
@origin_flags
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="auto",
    show_default=True,
    help="As which the weights are counted; auto: as a plain from_pretrained loads them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def models(model: str, dtype: str, as_json: bool, **origins: Any) -> None:
    """Show what MODEL, a folder or a hub id, supports: its roles, the bytes of weights in each and
    of what crosses between them, its parameters, and what it can be served with.

    It is told from configs: no weights are loaded, and it takes seconds whatever the model's size.
    """
    place = settle(model)
    import msgspec

    from roles.split.program import ModelError
    from roles.split.survey import survey

    try:
        found = survey(place, dtype, origins_of(origins))  # type: ignore[arg-type]  # a choice
    except ModelError as error:
        raise LaunchError(str(error)) from error
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    from rich.console import Console

    _show(Console(highlight=False), found)


def _show(console: "Console", found: "Survey") -> None:
    console.print(f"{found.info.name}: {found.info.pipeline}, {_makes(found)}\n", markup=False)
    for title, rows in _tables(found).items():
        console.print(_table(title, rows))
        console.print()


def _makes(found: "Survey") -> str:
    info = found.info
    size = f" of {info.default_size[0]}x{info.default_size[1]}" if info.default_size else ""
    multiple = f", sides in multiples of {info.size_multiple}" if info.size_multiple > 1 else ""
    rates = {"frames": info.fps, "samples": info.sample_rate}
    told = "".join(f", {rate:g} {what} a second" for what, rate in rates.items() if rate)
    return f"{info.modality}{size}{multiple}{told}"


def _tables(found: "Survey") -> dict[str, list[tuple[str, ...]]]:
    info = found.info
    media = [(one.name, _media(one), _needed(one.required)) for one in found.media]
    plain = [(one.name, one.type, _default(one)) for one in info.parameters]
    return {
        "served as": [_served(found), *_switches(found)],
        f"weights, {found.dtype}": _weights(found.components),
        "crosses": [_crossing(each) for each in found.crossings],
        "parameters": [*media, *plain],
    }


def _served(found: "Survey") -> tuple[str, ...]:
    info = found.info
    return ("roles", ", ".join(ROLES)) if info.splittable else ("monolithic", f"{info.why_not}")


def _switches(found: "Survey") -> list[tuple[str, ...]]:
    generates = ", ".join(found.info.generates)
    return [
        ("LoRA adapters", _yes(found.lora)),
        ("--parallel ulysses", _yes(found.ulysses)),
        ("step caches", ", ".join(found.step_caches) or "none"),
        *([("writes prompts", generates)] if generates else []),
        *([("commit", found.info.revision)] if found.info.revision else []),
        *((f"{one.component} from", one.source) for one in found.info.replaced),
    ]


def _weights(components: "list[Component]") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for role in ROLES:
        own = [each for each in components if each.role == role]
        total = sum(each.nbytes or 0 for each in own)
        names = ", ".join(f"{each.name} ({each.kind}, {_bytes(each.nbytes)})" for each in own)
        rows.append((role, _bytes(total), names or "nothing"))
    return rows


def _crossing(one: "Crossing") -> tuple[str, ...]:
    size = _bytes(one.nbytes) if one.nbytes is not None else one.why_not or "unknown"
    return (f"{one.sender} to {one.receiver}", size, ", ".join(one.names))


def _media(one: Any) -> str:
    return f"list[{one.kind}]" if one.several else str(one.kind)


def _needed(required: bool) -> str:
    return "required" if required else ""


def _default(one: Any) -> str:
    return _needed(one.required) or ("" if one.default is None else str(one.default))


def _yes(why_not: str | None) -> str:
    return "yes" if why_not is None else f"no: {why_not}"


def _bytes(count: int | None) -> str:
    """Of 1024s, as people read them."""
    if count is None:
        return "none"
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"


def _table(title: str, rows: list[tuple[str, ...]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
