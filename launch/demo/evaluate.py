"""Scores the demo model on held-out prompts: `python -m launch.demo.evaluate`.

Draws pictures with the plain diffusers pipeline at its own default size, steps and guidance (or
those given), reads each with `launch.demo.reader`, and prints what is wrong with which. Exits with
1 when the share of prompts that are entirely right is below the threshold.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from launch.demo.drawing import SIZE
from launch.demo.reader import judge, read
from launch.demo.scenes import KINDS, Scene, held_out_scenes

MODEL = Path(__file__).parent / "model"
"""Where the shipped model lives."""
BATCH = 16
GAP = 4
"""Pixels between the pictures of a grid."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A prompt's scene, its picture, and what is wrong with it (nothing when right)."""

    scene: Scene
    picture: Image.Image
    faults: tuple[str, ...]


def generate(
    pipeline: DiffusionPipeline, prompts: list[str], seed: int, settings: dict[str, float]
) -> list[Image.Image]:
    """One picture per prompt; prompt k starts from the noise of seed + k."""
    pictures: list[Image.Image] = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        lots = [torch.Generator().manual_seed(seed + start + k) for k in range(len(batch))]
        pictures += pipeline(batch, generator=lots, **settings).images
    return pictures


def score(
    pipeline: DiffusionPipeline, scenes: list[Scene], seed: int, settings: dict[str, float]
) -> list[Judged]:
    """Pictures of the scenes, judged."""
    pictures = generate(pipeline, [scene.prompt for scene in scenes], seed, settings)
    return [
        Judged(scene, picture, tuple(judge(scene, read(picture))))
        for scene, picture in zip(scenes, pictures, strict=True)
    ]


def share_right(judged: Sequence[Judged]) -> float:
    """Share of pictures without a fault; 1 for none."""
    return sum(not one.faults for one in judged) / len(judged) if judged else 1.0


def table(judged: Sequence[Judged]) -> str:
    """A line per prompt, then the shares by kind and background, then the share of all."""
    lines = [
        f"{'wrong' if one.faults else 'right'}  {one.scene.prompt:<62} {'; '.join(one.faults)}"
        for one in judged
    ]
    groups = {kind: [one for one in judged if one.scene.kind == kind] for kind in KINDS}
    for background in sorted({one.scene.background for one in judged}):
        groups[f"on {background}"] = [one for one in judged if one.scene.background == background]
    groups["all"] = list(judged)
    lines += ["", f"{'group':<10} {'prompts':>7} {'right':>7}"]
    lines += [f"{k:<10} {len(g):>7} {share_right(g):>7.1%}" for k, g in groups.items()]
    return "\n".join(line.rstrip() for line in lines)


def grid(pictures: Sequence[Image.Image], columns: int = 8) -> Image.Image:
    """The pictures side by side, row by row, with a gray gap."""
    rows, pitch = -(-len(pictures) // columns), SIZE + GAP
    sheet = Image.new("RGB", (columns * pitch + GAP, rows * pitch + GAP), (205, 205, 205))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        sheet.paste(picture, (GAP + column * pitch, GAP + row * pitch))
    return sheet


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=Path, default=MODEL, help="a diffusers model folder")
    parser.add_argument("--prompts", type=int, default=96, help="how many held-out prompts")
    parser.add_argument("--seed", type=int, default=0, help="chooses prompts and noise")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the pipeline's)")
    parser.add_argument("--guidance", type=float, help="guidance scale (default: the pipeline's)")
    parser.add_argument("--grid", type=Path, help="save the first 32 pictures as this PNG")
    parser.add_argument("--threshold", type=float, default=0.95, help="least share for success")
    return parser.parse_args()


def main() -> int:
    """Command line; returns the exit code."""
    arguments = _arguments()
    given = {"num_inference_steps": arguments.steps, "guidance_scale": arguments.guidance}
    settings = {name: value for name, value in given.items() if value is not None}
    pipeline = DiffusionPipeline.from_pretrained(arguments.model)
    pipeline.set_progress_bar_config(disable=True)
    judged = score(
        pipeline, held_out_scenes(arguments.prompts, arguments.seed), arguments.seed, settings
    )
    print(table(judged))
    if arguments.grid:
        grid([one.picture for one in judged[:32]]).save(arguments.grid, optimize=True)
    return 0 if share_right(judged) >= arguments.threshold else 1


if __name__ == "__main__":
    sys.exit(main())
