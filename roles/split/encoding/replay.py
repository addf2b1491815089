"""Replay: what the encoder role kept, given to a pipeline whose encoders are elsewhere."""

import copy
import functools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from roles.split.face import NotHere
from transfer.record import Record

if TYPE_CHECKING:
    from roles.split.encoding.recording import Kept


class Replay:
    """One request's recording, handed out in its order.

    `methods` are the names of the pipeline's methods that it answers, `of(component)` the answers
    for a component's face.
    """

    def __init__(self, kept: "list[Kept]", generator: torch.Generator) -> None:
        self._generator = generator
        self._waiting: dict[str, deque[tuple[Any, torch.Tensor | None]]] = {}
        for name, value, draws in kept:
            self._waiting.setdefault(name, deque()).append((value, draws))

    @property
    def methods(self) -> list[str]:
        return [name for name in self._waiting if "." not in name]

    def of(self, component: str) -> dict[str, Any]:
        """The component's methods that were called, each with its answer."""
        own = [name for name in self._waiting if name.startswith(f"{component}.")]
        return {name.partition(".")[2]: functools.partial(self._next, name) for name in own}

    def method(self, name: str, original: Any) -> Any:
        """A replacement of a pipeline's method; pipelines look at the signatures of some."""

        @functools.wraps(original)
        def replay(*args: Any, **kwargs: Any) -> Any:
            return self._next(name)

        return replay

    def _next(self, name: str, *args: Any, **kwargs: Any) -> Any:
        waiting = self._waiting[name]
        if not waiting:
            message = f"the pipeline calls {name} more often than it did in the encoder role"
            raise NotHere(message, name.rpartition(".")[2])
        value, draws = waiting.popleft()
        if draws is not None:
            self._generator.set_state(draws)
        return own(value)


def own(value: Any) -> Any:
    """The same tensors in lists and dicts of its own, for pipelines change theirs in place."""
    return mapped(value, lambda tensor: tensor)


def hollow(value: Any) -> Any:
    """The same tree, with tensors of the same shapes and dtypes that have no storage of their own.

    Enough for a pipeline that skips its loop; on the wire it weighs nothing.
    """
    return mapped(value, _without_storage)


def _without_storage(value: torch.Tensor) -> torch.Tensor:
    return torch.zeros((), dtype=value.dtype, device=value.device).expand(value.shape)


def mapped(value: Any, made: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same tree, with what `made` makes of each tensor."""
    if isinstance(value, torch.Tensor):
        return made(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(item, made) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(mapped(item, made) for item in value)
    if isinstance(value, dict):  # diffusers' and transformers' outputs are dicts too
        return _with(value, {key: mapped(item, made) for key, item in value.items()})
    if isinstance(value, Record) or _is_distribution(value):
        shell = copy.copy(value)
        shell.__dict__.update((key, mapped(item, made)) for key, item in vars(value).items())
        return shell
    return value


def _is_distribution(value: Any) -> bool:
    return any(map(torch.is_tensor, getattr(value, "__dict__", {}).values()))


def _with(original: dict[str, Any], items: dict[str, Any]) -> dict[str, Any]:
    if type(original) is dict:
        return items
    return type(original)(**items)
