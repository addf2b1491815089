"""`triptych generate`: one prompt to a running cluster, the pictures into files."""

import time
from pathlib import Path
from typing import Any

import click

from launch.cli.command import Command
from launch.cli.flags import COUNT, url_flag
from launch.cli.values import PIXELS
from launch.pictures import FORMATS, check_writable, format_of, numbered, write_whole
from launch.timings import in_order


@click.command(cls=Command, short_help="Generate a picture on a running cluster.")
@click.argument("prompt")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Where the picture goes: .png, .jpg, .jpeg or .webp (of videos .mp4, .webp, or .zip "
    "with the frames; of sounds .wav, .flac). Several are numbered: FILE-1.png, FILE-2.png …",
)
@url_flag
@click.option(
    "--model",
    metavar="NAME",
    help="Which model, where the cluster serves several (`triptych status` tells). [default: the "
    "only one, or the cluster's own default]",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="The same seed gives the same picture. [default: a random one, which is printed]",
)
@click.option(
    "--steps",
    type=COUNT,
    metavar="N",
    help="Denoising steps. [default: the pipeline's own]",
)
@click.option(
    "--size",
    type=PIXELS,
    metavar="WxH",
    help="Width and height in pixels. [default: the pipeline's own]",
)
@click.option(
    "--guidance",
    type=float,
    metavar="F",
    help="How closely to follow the prompt (guidance_scale). [default: the pipeline's own]",
)
@click.option("--negative-prompt", metavar="TEXT", help="What the picture shall not show.")
@click.option(
    "-n",
    "--count",
    type=COUNT,
    default=1,
    show_default=True,
    metavar="N",
    help="Pictures; their seeds are SEED, SEED+1 …",
)
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    help="The file's format. [default: by FILE's extension]",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Bit for bit the plain pipeline's pixels: never batched with other requests.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up after so long. [default: only the cluster's own limit]",
)
def generate(
    prompt: str,
    output: Path,
    url: str,
    api_key: str | None,
    count: int,
    timeout: float | None,
    **flags: Any,
) -> None:
    """Generate a picture of PROMPT on a running cluster and write it to FILE.

    \b
    triptych generate "a red circle above a blue square" -o picture.png --seed 7
    """
    paths = numbered(output, count)
    check_writable(paths[0])
    fields = _fields(prompt, output, count, flags)
    from launch.client import Client
    from launch.progress import spinner

    began = time.monotonic()
    with Client(url, timeout, api_key) as client, spinner(f"waiting for {client.url}"):
        images = client.images(fields)
    elapsed = time.monotonic() - began
    for path, content in zip(paths, images.files, strict=True):
        write_whole(path, content)
    for number, path in enumerate(paths):
        click.echo(f"{path}  (seed {images.seed + number})")
    click.echo(_timings(images.timings, elapsed))


def _fields(prompt: str, output: Path, count: int, flags: dict[str, Any]) -> dict[str, Any]:
    """The request's JSON: what was not given is left out, so that the pipeline's defaults hold."""
    try:
        output_format = flags["format"] or format_of(output)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    size = flags["size"]
    optional = {
        "model": flags["model"],
        "size": size and f"{size[0]}x{size[1]}",
        "seed": flags["seed"],
        "num_inference_steps": flags["steps"],
        "guidance_scale": flags["guidance"],
        "negative_prompt": flags["negative_prompt"],
        "exact": flags["exact"] or None,
    }
    given = {name: value for name, value in optional.items() if value is not None}
    return {"prompt": prompt, "n": count, "output_format": output_format, **given}


def _timings(timings: dict[str, float], elapsed: float) -> str:
    parts = (f"{name} {seconds:.2f} s" for name, seconds in in_order(timings).items())
    return f"{', '.join(parts)}; {elapsed:.2f} s until it was here"
