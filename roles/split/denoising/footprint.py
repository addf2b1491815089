"""Whether a forward left what it was given as it was.

What a model keeps in its arguments (a cache that it fills, say) is not in its result, so that a
request whose forwards are answered with their results would lack it.
"""

from typing import Any

import numpy as np
import torch

from roles.split.denoising.loop import NotPortable

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_VALUES = (torch.dtype, torch.device, torch.Size, np.generic)


def footprint(value: Any) -> Any:
    """Equal before and after a forward that wrote into nothing of this. Raises NotPortable for what
    nobody can tell of."""
    if isinstance(value, torch.Tensor):
        if value.is_inference():
            raise NotPortable("its model is given tensors whose changes cannot be seen")
        return id(value), value._version
    if isinstance(value, list | tuple):
        return tuple(map(footprint, value))
    if type(value) is dict:
        return tuple((key, footprint(item)) for key, item in value.items())
    if type(value) in _PLAIN or isinstance(value, _VALUES):
        return value
    raise NotPortable(f"its model is given a {type(value).__name__}, and may keep something in it")
