"""Named values as they were at one moment, to tell which of them have changed since."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

PLAIN = (type(None), bool, int, float, str, bytes)


class Base:
    """What values were. Tensors that are written to are seen by their versions; of objects that are
    neither plain values, tensors nor containers only who they are is known."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: _noted(value) for name, value in values.items()}

    def same(self, name: str, value: Any) -> bool:
        """Whether this is what it was."""
        return name in self._values and _same(self._values[name], value)

    def changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of them that are new, or not what they were."""
        return {name: value for name, value in values.items() if not self.same(name, value)}


def version_of(value: torch.Tensor) -> int | None:
    """How often it was written to; None if it does not count."""
    return None if value.is_inference() else value._version


class _Tensor:
    def __init__(self, value: torch.Tensor) -> None:
        self.value, self.version = value, version_of(value)


def _noted(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _Tensor(value)
    if type(value) in (list, tuple):
        return type(value)(map(_noted, value))
    if type(value) is dict:
        return {key: _noted(item) for key, item in value.items()}
    return value.copy() if type(value) is np.ndarray else value


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, _Tensor):
        return was.value is now and was.version == version_of(now) is not None
    if type(was) is not type(now):
        return False
    if type(was) in (list, tuple):
        return len(was) == len(now) and all(map(_same, was, now))
    if type(was) is dict:
        return list(was) == list(now) and all(_same(was[key], now[key]) for key in was)
    if type(was) is np.ndarray:
        return was.dtype == now.dtype and np.array_equal(was, now)
    return was is now or (isinstance(was, PLAIN) and bool(was == now))
