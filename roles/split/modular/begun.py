"""The state with which a modular request's denoising began, for its previews."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.modular_pipelines.modular_pipeline import PipelineState

from roles.split.denoising.snapshot import containers
from roles.split.encoding.replay import mapped
from roles.split.modular import stages


class Begun:
    """Keeps it: the request's own values in containers of their own, and its generator as it stood.
    What it gives (`state`) are copies, whatever is done to them."""

    def __init__(self, values: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> None:
        self._values = {name: _still(value) for name, value in containers(dict(values)).items()}
        self._groups = {group: list(members) for group, members in groups.items()}

    def state(self, generator: torch.Generator) -> PipelineState:
        """Another state like it. `generator` goes on where the request's own was."""
        payload = {"values": mapped(self._values, torch.clone), "groups": self._groups}
        return stages.restored(payload, generator)


def _still(value: Any) -> Any:
    """A generator that nobody else draws from; everything else as it is."""
    if not isinstance(value, torch.Generator):
        return value
    return torch.Generator(value.device).set_state(value.get_state())
