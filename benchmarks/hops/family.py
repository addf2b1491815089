"""A published model, as far as shapes go, and a usual request for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# 72 words and marks: where nothing pads a text, its length decides what crosses
PROMPT = (
    "A lighthouse on a cliff at dusk, seen from a small boat: waves break over black rocks, gulls "
    "circle around the lamp, and far away a storm draws near. Warm light falls out of one window, "
    "where somebody is reading. Painted in oil, with visible strokes, deep blues and a little "
    "orange, and a thin line of green along the horizon."
)


@dataclass(frozen=True)
class Family:
    """`name`: of the published model. `pipeline`: its class in diffusers, or whatever makes one.
    `parts`: its components, built anew; those with weights on the meta device. `request`: what it
    is asked for, beside the prompt; `asked`: the same for people. `sides`: (width, height) in
    pixels of each of the media that come with it, by argument. `source`: where the numbers of
    layers and widths are from."""

    name: str
    pipeline: str | Callable[..., Any]
    parts: Callable[[], Mapping[str, Any]]
    request: Mapping[str, Any]
    asked: str
    source: str
    sides: Mapping[str, tuple[int, int]] = field(default_factory=dict)
