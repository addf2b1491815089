"""Modules that say zeros, of the shapes that the real ones would say.

They run on torch's meta device, which knows shapes and no numbers, so that even the largest takes a
second, and no memory.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

from roles.split.face import Face

WAYS_IN = ("forward", "encode", "decode", "get_text_features", "get_image_features")


class Imagined(Face):
    """Poses as a component, and says zeros on the device. `skeleton`: the component without its
    weights, or the real one."""

    def __init__(self, skeleton: Any, device: torch.device) -> None:
        made = hollow(skeleton)
        ways = {name: getattr(made, name, None) for name in WAYS_IN}
        answers = {name: saying_zeros(way, device) for name, way in ways.items() if callable(way)}
        super().__init__(skeleton, {"__call__": saying_zeros(made, device), **answers})
        self.__dict__["device"] = device


def hollow(module: Any) -> Any:
    """A copy on the meta device, which computes shapes."""
    made = copy.deepcopy(module).to("meta")
    if hasattr(made, "set_attn_implementation"):
        made.set_attn_implementation("eager")  # the others look into their masks
    return made


def saying_zeros(method: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The method of a hollow module, with zeros for what it would compute."""

    def compute(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = tree_map(_to_meta, (args, kwargs))
        with FakeTensorMode(allow_non_fake_inputs=True):  # no module looks into a fake's values
            said = method(*args, **kwargs)
        return tree_map(lambda value: _zeros(value, device), said)

    return compute


def _to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


def _zeros(value: Any, device: torch.device) -> Any:
    """Of a tensor; of a distribution, one of zeros; everything else is as it is."""
    if isinstance(value, torch.Tensor):
        return torch.zeros(tuple(value.shape), dtype=value.dtype, device=device)
    if not any(isinstance(each, torch.Tensor) for each in getattr(value, "__dict__", {}).values()):
        return value
    made = copy.copy(value)
    made.__dict__.update({name: _zeros(each, device) for name, each in vars(value).items()})
    return made
