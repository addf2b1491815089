"""Which tiles a decoding has, before any of them is computed: a run of the autoencoder's own tiled
decode, in which its inner decoder has shapes but no data.
"""

import contextlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import xxhash

from roles.split.denoising.batching import tensors
from roles.split.denoising.together import is_out_of_memory
from roles.split.files.components import brief
from roles.split.skeleton import hollow_copy


class NotTiles(Exception):
    """What the inner decoder is called for cannot be told apart into tiles; says why."""


@dataclass(frozen=True)
class Piece:
    """One call of the inner decoder. `tile`: which it belongs to; those of one tile follow each
    other, each with what the one before it left (the frames of a causal decoder). `shape` and
    `dtype` of what it gives; `fields`: how many there are where that is a tuple, of which the
    first is the tensor, or None. `cost`: the elements that it reads."""

    tile: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    fields: int | None
    cost: int

    def told(self, tensor: torch.Tensor) -> Any:
        """As the decoder would give it; nobody needs what it left for the next piece."""
        return tensor if self.fields is None else (tensor, *[None] * (self.fields - 1))


@dataclass(frozen=True)
class TilePlan:
    """The calls of one decoding, in order. `why_not`: why ranks cannot share it, for people; then
    they may not be all. `alters`: with tiling off there would be others."""

    pieces: tuple[Piece, ...] = ()
    why_not: str | None = None
    alters: bool = True

    @property
    def tiles(self) -> int:
        return self.pieces[-1].tile + 1 if self.pieces else 0

    @property
    def digest(self) -> int:
        """Equal in all ranks, or they do not do the same."""
        return xxhash.xxh3_64_intdigest(repr((self.pieces, self.why_not is None)).encode())

    def owners(self, ranks: int) -> list[int]:
        """For each piece the rank that computes it."""
        costs = [0] * self.tiles
        for piece in self.pieces:
            costs[piece.tile] += piece.cost
        owners = shares(costs, ranks)
        return [owners[piece.tile] for piece in self.pieces]


def shares(costs: Sequence[int], ranks: int) -> list[int]:
    """For each tile its rank: the dearest first, each to whoever has least. Pure; the same in
    all ranks."""
    loads = [(0, rank) for rank in range(ranks)]
    owners = [0] * len(costs)
    for tile in sorted(range(len(costs)), key=lambda tile: (-costs[tile], tile)):
        load, rank = heapq.heappop(loads)
        owners[tile] = rank
        heapq.heappush(loads, (load + costs[tile], rank))
    return owners


def planned(module: Any, decode: Callable[[], Any]) -> TilePlan:
    """What `decode` would ask of the decoder of `module`. Raises only for want of memory: the
    result, without anything in it, is as large as the true one."""
    hollow = hollow_copy(module.decoder).to("meta")
    vars(hollow).pop("forward", None)  # that of a hook would be the real module's
    observer = _Observer(hollow)
    before = _state(hollow)
    try:
        with instead(module.decoder, observer.call):
            decode()
        if _state(hollow) != before:
            raise NotTiles("its decoder keeps something from one call to the next")
    except NotTiles as reason:
        return TilePlan(tuple(observer.pieces), str(reason))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        why_not = f"its decoder does not run without data ({brief(error)})"
        return TilePlan(tuple(observer.pieces), why_not)
    return TilePlan(tuple(observer.pieces))


@contextlib.contextmanager
def instead(decoder: torch.nn.Module, call: Callable[..., Any]) -> Iterator[None]:
    """Within the block `call` is what the module computes."""
    before = decoder.__dict__.get("forward")
    decoder.__dict__["forward"] = call
    try:
        yield
    finally:
        if before is None:
            del decoder.__dict__["forward"]
        else:
            decoder.__dict__["forward"] = before


class _Observer:
    """Notes the calls of a decoder, and answers with tensors that have the right shape.

    A call belongs to the tile of the one before it if it is given a tensor that this one has left:
    the features of earlier frames, in a list that both change, or handed on by the caller. Calls of
    one form give one answer, so that a film of many tiles costs no more than a few of them.
    """

    def __init__(self, hollow: Any) -> None:
        self._hollow = hollow
        self._left: dict[int, torch.Tensor] = {}  # kept, or another one could get its id
        self._answers: dict[str, tuple[Any, list[Any]]] = {}
        self.pieces: list[Piece] = []

    def call(self, tile: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        given = {id(each) for each in tensors((args, kwargs))}
        goes_on = bool(given & self._left.keys())
        if not goes_on:
            self._left.clear()
        made = self._answer(tile, args, kwargs)
        main, fields = _main(made)
        for each in tensors((made, args, kwargs)):
            if id(each) not in given:
                self._left[id(each)] = each
        number = self.pieces[-1].tile + (not goes_on) if self.pieces else 0
        shape = tuple(main.shape)
        self.pieces.append(Piece(number, shape, main.dtype, fields, tile.numel()))
        blank = torch.zeros(shape, dtype=main.dtype, device=tile.device)
        return blank if fields is None else (blank, *made[1:])

    def _answer(self, tile: torch.Tensor, args: Any, kwargs: Any) -> Any:
        """What comes of it, and in the containers of its arguments what would be left there."""
        form = repr(_form((tile, args, kwargs)))
        holders = list(_holders((args, kwargs)))
        if form in self._answers:
            made, left = self._answers[form]
            for holder, items in zip(holders, left, strict=True):
                if items is not None:
                    holder.clear()
                    holder.extend(items) if isinstance(holder, list) else holder.update(items)
            return made
        before = [holder.copy() for holder in holders]
        positional, named = _on_meta((args, kwargs))
        made = self._hollow(tile.to("meta"), *positional, **named)
        left = [
            None if _same(holder, was) else holder.copy()
            for holder, was in zip(holders, before, strict=True)
        ]
        self._answers[form] = made, left
        return made


def _form(value: Any) -> Any:
    """What the answer depends on: shapes and dtypes, and whatever else is given."""
    if isinstance(value, torch.Tensor):
        return "tensor", tuple(value.shape), value.dtype
    if isinstance(value, dict):
        return [(key, _form(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [_form(each) for each in value]
    return value


def _holders(value: Any) -> Iterator[Any]:
    """The lists and dicts within, in order; not those of the call itself."""
    args, kwargs = value
    for each in (*args, *kwargs.values()):
        if isinstance(each, list | dict):
            yield each


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(one[key] is other[key] for key in one)
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _main(made: Any) -> tuple[torch.Tensor, int | None]:
    if isinstance(made, torch.Tensor):
        return made, None
    if type(made) is tuple and made and isinstance(made[0], torch.Tensor):
        return made[0], len(made)
    raise NotTiles(f"its decoder gives a {type(made).__name__}")


def _on_meta(value: Any) -> Any:
    """Lists and dicts in which the decoder leaves things stay the same objects: what is in them has
    come from it, and is on the meta device already."""
    if isinstance(value, torch.Generator):
        raise NotTiles("its decoder draws random numbers")
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, dict):
        changed = {key: _on_meta(each) for key, each in value.items()}
        return value if all(changed[key] is value[key] for key in value) else changed
    if isinstance(value, list | tuple):
        made = [_on_meta(each) for each in value]
        same = all(one is other for one, other in zip(made, value, strict=True))
        return value if same else type(value)(made)
    return value


def _state(module: torch.nn.Module) -> list[dict[str, int]]:
    """What its parts have beside weights, by identity."""
    return [{name: id(each) for name, each in vars(part).items()} for part in module.modules()]
