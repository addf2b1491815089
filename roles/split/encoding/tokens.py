"""A forward of a model that generates text, one token of it mostly, and several of them as one.

Nothing here knows a model family. Forwards share when each is of one token of one sequence, has a
cache of the usual kind (`roles.split.encoding.seats`), says its positions, and gives nothing else
that is not either plain or one row: what differs from request to request is then all in its row.
Anything else runs alone: the reading of the prompt, beams, caches of sliding windows and of linear
attention, models that find the positions of text and pictures by themselves.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from roles.split.denoising.batching import split
from roles.split.encoding.carried import Carried

if TYPE_CHECKING:  # ranks whose programs write nothing start without transformers
    from roles.split.encoding.seats import Seats
    from roles.split.weights.adapters import Worn

CACHE = "past_key_values"
_MASK, _POSITIONS, _IDS = "attention_mask", "position_ids", "input_ids"
_OF_ITS_OWN = {CACHE, _MASK}


@dataclass(frozen=True, eq=False)
class TokenCall:
    """One forward that a request's `generate` waits for: everything to run it now, or with others.

    `module` is the shared, real module, `kwargs` are exactly what `generate` gave. `seats`: where
    caches of this model lie side by side. `carried`: the request's own notes on its modules.
    `worn`: the adapters that it has on (`roles.split.weights.adapters.Worn`).
    """

    module: Any
    name: str
    kwargs: dict[str, Any]
    seats: "Seats"
    carried: Carried
    worn: "Worn | None" = None

    def dress(self) -> None:
        """Before a forward: the request's adapters, and no others."""
        if self.worn is not None:
            self.worn.on(self.name)

    def run(self) -> Any:
        """The real forward, alone: the very call that `generate` makes."""
        self.dress()
        with self.carried.in_place(look=not self.single):
            return self.module(**self.kwargs)

    def rehearse(self) -> Any:
        """What `run` would give, while the cache stays as it is."""
        self.dress()
        with self.carried.in_place():
            return self.module(**{**self.kwargs, CACHE: self.seats.beside(self.kwargs[CACHE])})

    @property
    def single(self) -> bool:
        """Whether it is one token of one sequence, after a prompt that was read before."""
        ids = self.kwargs.get(_IDS)
        return self.cached > 0 and isinstance(ids, torch.Tensor) and ids.shape == (1, 1)

    @property
    def cached(self) -> int:
        """How many tokens its cache has."""
        cache = self.kwargs.get(CACHE)
        return 0 if cache is None else int(cache.get_seq_length())

    @cached_property
    def key(self) -> str | None:
        """Calls with equal keys may run as one; None: this one runs alone. As that of
        `roles.split.denoising.batching.key_of`; nothing has to be of equal contents."""
        if not self.single or not self.seats.takes(self.kwargs[CACHE]):
            return None
        mask = self.kwargs.get(_MASK)
        if self.kwargs.get(_POSITIONS) is None or (mask is not None and mask.ndim != 2):
            return None
        form = [type(self.module).__name__, self.name]
        if self.worn is not None:
            form += [f"{lora.name}*{lora.scale}" for lora in self.worn.loras]
        for name in sorted(self.kwargs.keys() - _OF_ITS_OWN):
            told = _described(name, self.kwargs[name])
            if told is None:
                return None
            form.append(f"{name} {told}")
        return hashlib.blake2b("\n".join(form).encode(), digest_size=8).hexdigest() + ":"


def together(calls: Sequence[TokenCall]) -> list[Any]:
    """What these forwards give, computed as one; nothing has happened to their caches until
    `accept`. Each result has its request's own cache."""
    first = calls[0]
    caches = [call.kwargs[CACHE] for call in calls]
    rows = first.seats.seat(caches, [call.kwargs.get(_MASK) for call in calls])
    ordered = [call for _, call in sorted(zip(rows, calls, strict=True), key=lambda it: it[0])]
    cache, mask = first.seats.common()
    shared = first.kwargs.keys() - _OF_ITS_OWN
    kwargs = {name: _joined([call.kwargs[name] for call in ordered]) for name in shared}
    first.dress()
    output = first.module(**{**kwargs, CACHE: cache, _MASK: mask})
    fields = {name: value for name, value in output.items() if name != CACHE}
    each = split(fields, [1] * len(calls))
    kind = type(output)
    return [kind(**each[row], **{CACHE: own}) for row, own in zip(rows, caches, strict=True)]


def accept(calls: Sequence[TokenCall]) -> None:
    """The results of `together` are taken."""
    calls[0].seats.grow()


def _described(name: str, value: Any) -> str | None:
    """What of an argument has to be equal; None if it is not understood."""
    if isinstance(value, torch.Tensor):
        one = value.shape == (1, 1) or (name == _POSITIONS and value.shape[1:] == (1, 1))
        return f"{value.dtype} {value.device} {tuple(value.shape)}" if one else None
    plain = value is None or isinstance(value, bool | int | float | str | torch.dtype)
    return repr(value) if plain else None


def _joined(values: list[Any]) -> Any:
    """One argument of several calls, as one: `[1, 1]` by rows, `[axes, 1, 1]` by the second."""
    first = values[0]
    return torch.cat(values, dim=first.ndim - 2) if isinstance(first, torch.Tensor) else first
