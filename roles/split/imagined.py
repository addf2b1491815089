"""Modules that say zeros, of the shapes that the real ones would say.

They run on torch's meta device, which knows shapes and no numbers, so that even the largest takes a
second, and no memory.
"""

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

from roles.split.face import ENCODES, Face
from transfer.record import Record

WAYS_IN = ("forward", *ENCODES, "decode", "get_text_features", "get_image_features")
# What some language models look into the numbers of. Without it they say as much: the text has a
# place for each token of a picture already, and a mask leaves all of them there.
LOOKED_INTO = {
    "attention_mask",
    "pixel_values",
    "pixel_values_videos",
    "image_grid_thw",
    "video_grid_thw",
    "image_sizes",
}


class Imagined(Face):
    """Poses as a component, and says zeros on the device. `skeleton`: the component without its
    weights, or the real one."""

    def __init__(self, skeleton: Any, device: torch.device) -> None:
        made = hollow(skeleton)
        ways = {name: getattr(made, name, None) for name in WAYS_IN}
        answers = {name: saying_zeros(way, device) for name, way in ways.items() if callable(way)}
        called = saying_zeros(_unseen(made), device)
        super().__init__(skeleton, {"__call__": called, **answers, "forward": called})
        self.__dict__["device"] = device


def _unseen(module: Any) -> Callable[..., Any]:
    """The module; where it cannot run without numbers (it decides by some, or computes under the
    autocast of a device), latents of as many channels as its config says that it gives."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        try:
            return module(*args, **kwargs)
        except Exception:
            latents: Any = kwargs.get("hidden_states", args[0] if args else None)
            shape = _given(getattr(module, "config", None), getattr(latents, "shape", ()))
            if shape is None:
                raise
            return Record(sample=latents.new_empty(shape))

    return forward


def _given(config: Any, shape: Sequence[int]) -> list[int] | None:
    """The shape of what a denoiser gives for latents of this one, `[batch, channels, …]` or
    `[batch, tokens, channels]`."""
    seen = getattr(config, "in_channels", None)
    given = getattr(config, "out_channels", None) or seen
    axes = [axis for axis in (1, -1) if len(shape) > 2 and shape[axis] == seen]
    if not axes or not isinstance(given, int):
        return None
    made = list(shape)
    made[axes[0]] = given
    return made


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
        # no module looks into a fake's values
        with FakeTensorMode(allow_non_fake_inputs=True), _without_torchs_log():
            said = _said(method, args, kwargs)
        return tree_map(lambda value: _zeros(value, device), said)

    return compute


@contextlib.contextmanager
def _without_torchs_log() -> Iterator[None]:
    """Shapes that do not fit are an error that is dealt with or raised here; torch logs it too,
    with its traceback."""
    log = logging.getLogger(FakeTensorMode.__module__)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _said(method: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    try:
        return method(*args, **kwargs)
    except Exception:
        if LOOKED_INTO.isdisjoint(kwargs):
            raise
    return method(*args, **{name: v for name, v in kwargs.items() if name not in LOOKED_INTO})


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
