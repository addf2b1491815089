"""Modules without weights: every parameter is on torch's meta device.

Pipelines read more of a component than its config: dtypes, latent statistics kept in buffers,
sub-modules' attributes. A skeleton has all of that, is built in a fraction of a second whatever the
model's size, and holds a few KB. Whatever is computed with its parameters is on the meta device too
and cannot cross to another role, so nothing made up ever reaches a picture.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch


def hollow_copy(module: Any) -> Any:
    """A copy of a module whose parameters have no storage."""
    hollow = {id(p): _hollow(p) for p in module.parameters()}
    return copy.deepcopy(module, hollow)


def build(make: Any, dtype: torch.dtype, keep: list[str]) -> Any:
    """The module that `make()` constructs, on the meta device.

    Its floating parameters are of `dtype`, as loading would make them, but for those with a part of
    their name in `keep`, which the model keeps in float32.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        module = _made(make)
    finally:
        torch.set_default_dtype(before)
    for name, parameter in module.named_parameters():
        if parameter.is_floating_point():
            kept = any(part in keep for part in name.split("."))
            parameter.data = parameter.data.to(torch.float32 if kept else dtype)
    return module.requires_grad_(False).eval()


def _made(make: Any) -> Any:
    try:
        with torch.device("meta"):
            return make()
    except RuntimeError:  # the constructor computes with numbers of its own, such as a filter bank
        return hollow_copy(make())


def stored_buffers(module: Any) -> Iterator[str]:
    """The names of the buffers that a checkpoint has, beside the parameters."""
    stored = module.state_dict().keys()
    return (name for name, _ in module.named_buffers() if name in stored)


def set_tensor(module: Any, name: str, value: torch.Tensor) -> None:
    """Gives a buffer or a parameter its numbers."""
    *path, leaf = name.split(".")
    for part in path:
        module = getattr(module, part)
    if leaf in module._parameters:
        module._parameters[leaf] = torch.nn.Parameter(value, requires_grad=False)
    else:
        module._buffers[leaf] = value


def _hollow(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    data = torch.empty_like(parameter, device="meta")
    return torch.nn.Parameter(data, requires_grad=False)
