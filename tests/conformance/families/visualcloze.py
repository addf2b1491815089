"""VisualCloze: a Flux that fills in what is missing in a grid of pictures."""

from typing import Any

from tests.conformance.case import Case
from tests.conformance.families.flux import flux
from tests.conformance.parts.pictures import picture

GRID = "its pictures come as rows of a grid, in which None is to be made"


def asked() -> dict[str, Any]:
    """An example, and a picture to do the same with."""
    return {
        "task_prompt": "each row shows the same: [IMAGE1] blue, [IMAGE2] red",
        "content_prompt": "a red circle",
        "image": [[picture(), picture(1)], [picture(2), None]],
        "num_inference_steps": 2,
        "max_sequence_length": 512,
    }


def visualcloze(kind: str) -> Any:
    """A pipeline of that class. The transformer sees latents, pictures, and their masks."""
    return flux(kind, 16 + 16 + 256, guidance=True, resolution=32)


CASES = [
    Case(
        "VisualClozeGenerationPipeline",
        "image to image by example",
        lambda: visualcloze("VisualClozeGenerationPipeline"),
        asked,
        quirk=GRID,
    ),
    Case(
        "VisualClozePipeline",
        "image to image by example",
        lambda: visualcloze("VisualClozePipeline"),
        lambda: {**asked(), "upsampling_height": 32, "upsampling_width": 32},
        quirk=GRID,
    ),
]
