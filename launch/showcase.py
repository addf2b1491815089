"""`make demo`: one prompt through three roles of the bundled model, from nothing to a picture.

    python -m launch.showcase [PROMPT] [--output FILE] [--seed N]

Starts orchestrator, encoder, denoiser and decoder as processes of their own, generates, tells what
each stage took and where the picture is, and stops everything.
"""

import time
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from launch.client import Client, Images
from launch.cluster import Cluster
from launch.errors import LaunchError
from launch.pictures import check_writable, write_whole
from launch.progress import StageBars, spinner
from launch.timings import in_order

MODEL = Path(__file__).parent / "demo" / "model"
PROMPT = "a red circle above a blue square"
START_S = 300


@click.command(help=__doc__)
@click.argument("prompt", default=PROMPT)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default="demo.png",
    show_default=True,
    help="Where the picture goes, a PNG file.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Another one, another picture."
)
def main(prompt: str, output: Path, seed: int) -> None:
    try:
        show(prompt, output, seed)
    except LaunchError as error:
        raise SystemExit(f"demo: {error}") from error


def show(prompt: str, output: Path, seed: int) -> None:
    console = Console()
    check_writable(output)
    console.print(f'\n[bold]Triptych[/] draws "{prompt}" on three panels.\n')
    cluster = Cluster(MODEL, encoders=1, denoisers=1, decoders=1, start_timeout=START_S)
    began = time.monotonic()
    with spinner("starting four processes"):
        cluster.__enter__()
    try:
        console.print(_processes(cluster))
        console.print(f"ready after {time.monotonic() - began:.1f} s\n", highlight=False)
        images = _generate(cluster, prompt, seed)
        write_whole(output, images.files[0])
    finally:
        with spinner("stopping them"):
            cluster.stop()
    console.print(_timings(images.timings))
    console.print(f"The picture is in [bold]{output.resolve()}[/]; all processes have ended.\n")


def _generate(cluster: Cluster, prompt: str, seed: int) -> Images:
    with Client(cluster.url) as client, Client(cluster.url) as watcher, StageBars(watcher):
        return client.images({"prompt": prompt, "seed": seed})


def _processes(cluster: Cluster) -> Table:
    table = Table("process", "pid", "ranks", box=box.SIMPLE)
    for process in cluster.processes:
        ranks = ", ".join(str(pid) for pid in process["rank_pids"])
        table.add_row(process["name"], str(process["pid"]), ranks or "none")
    return table


def _timings(timings: dict[str, float]) -> Table:
    table = Table("stage", "seconds", box=box.SIMPLE)
    for name, seconds in in_order(timings).items():
        table.add_row(name, f"{seconds:.3f}")
    return table


if __name__ == "__main__":
    main()
