"""What one family's roles hold and hand on, found out with its pipeline's own program on the meta
device: the same way as `triptych models` tells it of a folder."""

from typing import Any

import diffusers
import msgspec
import torch
from PIL import Image

from benchmarks.hops.family import PROMPT, Family
from roles.split.classic import ClassicProgram
from roles.split.files.components import Part
from roles.split.program import Call
from roles.split.survey import Crossing, crossings
from transfer.messages import Inputs

STEPS = 2


class Figures(msgspec.Struct):
    """`weights`: bytes for each role, in bfloat16 but for what the model keeps in float32;
    `parameters`: of the denoiser; `crossings`: of one request."""

    name: str
    pipeline: str
    asked: str
    source: str
    parameters: int
    weights: dict[Part, int]
    crossings: list[Crossing]


def measure(family: Family) -> Figures:
    torch.set_grad_enabled(False)
    program = assemble(family)
    modules = {part: program.of_part(part) for part in _PARTS}
    return Figures(
        name=family.name,
        pipeline=program.info.pipeline,
        asked=family.asked,
        source=family.source,
        parameters=sum(_parameters(each) for each in modules["denoiser"].values()),
        weights={part: sum(map(nbytes, own.values())) for part, own in modules.items()},
        crossings=crossings(program, request(family, program)),
    )


_PARTS: tuple[Part, ...] = ("encoder", "denoiser", "decoder")


def assemble(family: Family) -> ClassicProgram:
    kind = family.pipeline
    make = getattr(diffusers, kind) if isinstance(kind, str) else kind
    pipeline = make(**family.parts())
    pipeline.set_progress_bar_config(disable=True)
    return ClassicProgram(pipeline, family.name, "", torch.device("cpu"))


def request(family: Family, program: ClassicProgram) -> Call:
    """One that asks for what the family makes, by its defaults but for the number of steps."""
    params = {"prompt": PROMPT, "num_inference_steps": STEPS, **family.request}
    media = {name: [Image.new("RGB", side)] for name, side in family.sides.items()}
    return Call(family.name, Inputs(params, 0), media)


def nbytes(module: Any) -> int:
    return sum(each.nbytes for each in module.parameters())


def _parameters(module: Any) -> int:
    return sum(each.numel() for each in module.parameters())
