"""Some of the samples of a forward: the opposite of `batching.merge`, by the same understanding."""

from dataclasses import replace
from typing import Any

import torch

from roles.split.denoising.batching import Form, Unmergeable
from roles.split.program import TransformerCall


def samples(call: TransformerCall) -> int:
    """How many samples a forward has; 1 if it is not understood, because it runs whole."""
    try:
        return Form(call).count
    except Unmergeable:
        return 1


def sliced(call: TransformerCall, part: slice) -> TransformerCall:
    """The forward of these samples only. Raises `Unmergeable`."""
    form = Form(call)
    named = {name: _sliced(form, name, value, part) for name, value in form.named.items()}
    args = tuple(named.pop(name) for name in form.positional)
    return replace(call, args=args, kwargs=named)


def _sliced(form: Form, name: str, value: Any, part: slice) -> Any:
    if isinstance(value, torch.Tensor):
        return value[part] if form.how(name, value) in ("each", "both") else value
    if type(value) is dict:
        return {key: _sliced(form, str(key), each, part) for key, each in value.items()}
    if form.is_list_of_samples(name, value):
        return value[part]
    if type(value) in (list, tuple):
        return type(value)(_sliced(form, name, each, part) for each in value)
    return value
