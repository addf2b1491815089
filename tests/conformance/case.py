"""What the conformance suite knows of one pipeline in one of its workflows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One class of pipelines of diffusers, in one workflow.

    `pipeline`: the class, by its name in diffusers. `workflow`: what goes in and what comes out, in
    the words of the table ("text to image", "inpainting", …). `build` makes a tiny pipeline of that
    class with random weights from torch's global generator, in fp32; nothing is fetched.
    `arguments` gives, anew each time, what the plain pipeline is called with, except for its
    generator: plain values and media (a Pillow picture, a list of them, for a film the list of its
    frames, for a sound a tensor). Small: 32 by 32 pixels and 3 steps where the model allows.
    `alone`: why its forwards never share a batch, where that is the model's nature.
    `quirk`: what a reader of the table should know of it.
    """

    pipeline: str
    workflow: str
    build: Callable[[], Any]
    arguments: Callable[[], Mapping[str, Any]]
    alone: str = ""
    quirk: str = ""

    @property
    def name(self) -> str:
        """What it is asked for by on the command line: `FluxPipeline/text-to-image`."""
        return f"{self.pipeline}/{self.workflow.replace(' ', '-')}"


@dataclass(frozen=True)
class Absent:
    """A class that has no case: it cannot run at all with the pinned release. Says why."""

    pipeline: str
    reason: str
