"""What is in the payloads of classic and of modular pipelines."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from roles.split.denoising.batching import tensors

Payload = Mapping[str, Any]


def crossing(records: Payload) -> list[str]:
    """What a denoiser gets: results of the pipeline's methods and media, or values of the state."""
    if "kept" not in records:
        return sorted(records["values"])
    return sorted({name for name, *_ in records["kept"]}) + sorted(records.get("media", ()))


def cut(result: Payload) -> str:
    """Where the denoiser's work ends: the calls that its decoder makes, or the blocks."""
    if "kept" not in result:
        return "blocks"
    decodes = result.get("decodes")
    return ", ".join(sorted({f"{name}.decode" for name, *_ in decodes})) if decodes else "latents"


def numbers(result: Payload) -> list[torch.Tensor]:
    """The tensors in what a denoiser gives, but for whole numbers and states of generators."""
    return [each.double() for each in _tensors(result) if each.is_floating_point()]


def _tensors(result: Payload) -> Iterator[torch.Tensor]:
    if "decodes" not in result:
        return tensors(result.get("values", result))
    return tensors([decode[1:3] for decode in result["decodes"]])
