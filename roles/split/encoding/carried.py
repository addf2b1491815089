"""What a model notes on its own modules in one forward of a request and reads in a later one.

Vision-language models do so: how far an image has moved the positions of the text (`rope_deltas`),
or the positions of everything that is still to be generated. While requests take turns, each has
its own notes, and the modules are as they were loaded whenever no request is at work. Nobody says
which attributes those are: they are found by comparing before and after.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_Place = dict[str, Any]  # the attributes, or the buffers, of one module
_ABSENT: Any = object()
# transformers marks a model whose layers it has given hooks, which collect hidden states and stay:
# without the mark each request would have it give them more, and every state would come twice.
_LASTING = {"_output_capturing_hooks_installed"}


class Notes:
    """The attributes of a model that forwards have been seen to set, with what they were at first.
    One for a model's life. Tensors that are written to in place are not seen."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._places: list[_Place] = []
        for module in model.modules():
            self._places += [vars(module), module._buffers]
        self.known: dict[tuple[int, str], Any] = {}

    def get(self, at: tuple[int, str]) -> Any:
        return self._places[at[0]].get(at[1], _ABSENT)

    def put(self, at: tuple[int, str], value: Any) -> None:
        place, name = self._places[at[0]], at[1]
        if value is _ABSENT:
            place.pop(name, None)
        else:
            place[name] = value

    def now(self) -> list[_Place]:
        return [dict(place) for place in self._places]

    def find(self, before: list[_Place]) -> None:
        """Learns of what was set since then."""
        for index, (old, new) in enumerate(zip(before, self._places, strict=True)):
            for name in (old.keys() | new.keys()) - _LASTING:
                first = old.get(name, _ABSENT)
                if new.get(name, _ABSENT) is not first:
                    self.known.setdefault((index, name), first)


class Carried:
    """One request's notes on a model."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._own: dict[tuple[int, str], Any] = {}

    @contextlib.contextmanager
    def in_place(self, look: bool = False) -> Iterator[None]:
        """Within the block the model has this request's notes. `look`: new ones may be made, which
        costs a look at every module."""
        notes = self._notes
        for at, first in notes.known.items():
            notes.put(at, self._own.get(at, first))
        before = notes.now() if look else None
        try:
            yield
        finally:
            if before is not None:
                notes.find(before)
            for at, first in notes.known.items():
                self._own[at] = notes.get(at)
                notes.put(at, first)
