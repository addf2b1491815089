"""Whether what a model computed are numbers.

A NaN or an infinity becomes a black or a white pixel on the way to a picture, and nothing says so.
Half precision that overflows makes them, and so do weights or a device that are broken. So each
role looks once at what it is about to hand on, which costs a pass over latents, or over pixels that
a decoder has just computed: next to nothing.
"""

from collections.abc import Iterator
from typing import Any

import torch

from roles.split.denoising.batching import tensors

ADVICE = "half precision overflows in some models: --dtype bfloat16 and float32 reach further"


class NotFinite(RuntimeError):
    """A model gave NaN or infinities. Says which component, and what may help."""


def check(name: str, result: Any, given: Any = None, giver: str = "what it was given") -> None:
    """Raises NotFinite for what the component `name` gave, if it holds anything but numbers in a
    floating-point tensor. `given`: what that was computed from, which is to blame if it was no
    better; `giver`: how to call it. There, masks may be infinite."""
    if all(_finite(*ends) for ends in _ends(result)):
        return
    sick = any(bool(torch.isnan(low)) for low, _ in _ends(given))
    before = f" ({giver} had NaN already)" if sick else ""
    raise NotFinite(f"{name} gave NaN or infinity in the place of numbers{before}; {ADVICE}")


def _finite(low: torch.Tensor, high: torch.Tensor) -> bool:
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _ends(value: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The least and the greatest of each floating-point tensor in a tree; a NaN anywhere is both.
    Makes no copy, as isfinite would. Shapes without data have none, and float8 is for weights."""
    for tensor in tensors(value):
        wide = tensor.is_floating_point() and tensor.dtype.itemsize > 1
        if wide and tensor.numel() and not tensor.is_meta:
            yield torch.aminmax(tensor)
