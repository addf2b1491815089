"""Caches side by side: whatever joins, leaves, grows and ends, each holds what it would alone."""

import random
from typing import Any

import pytest
import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from roles.split.encoding.seats import ROOM, Seats

LAYERS, HEADS, WIDTH = 2, 2, 3


def token(seed: int, rows: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of one token, for each layer."""
    draw = torch.Generator().manual_seed(seed)
    shape = (2, LAYERS, rows, HEADS, 1, WIDTH)
    keys, values = torch.rand(shape, generator=draw)
    return list(zip(keys, values, strict=True))


def cache_of(length: int, seed: int) -> DynamicCache:
    draw = torch.Generator().manual_seed(seed)
    states = torch.rand((LAYERS, 2, 1, HEADS, length, WIDTH), generator=draw)
    return DynamicCache(ddp_cache_data=[(keys, values) for keys, values in states])


def write(cache: Cache, states: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for index, (keys, values) in enumerate(states):
        cache.update(keys, values, index)


def written(cache: Any) -> list[torch.Tensor]:
    return [state for layer in cache.layers for state in (layer.keys, layer.values)]


def equal(one: Any, other: Any) -> bool:
    return all(map(torch.equal, written(one), written(other)))


def together(seats: Seats, caches: list[Any], seeds: list[int]) -> None:
    """A forward that writes a token for each."""
    rows = seats.seat(caches, [None] * len(caches))
    common, mask = seats.common()
    assert mask.shape[0] == len(caches)
    assert mask.sum(dim=1).tolist() == [
        length + 1
        for _, length in sorted(zip(rows, (c.get_seq_length() for c in caches), strict=True))
    ]
    parts = [token(seed) for _, seed in sorted(zip(rows, seeds, strict=True))]
    layers = zip(*parts, strict=True)
    write(common, [(torch.cat([k for k, _ in it]), torch.cat([v for _, v in it])) for it in layers])
    seats.grow()


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_joining_leaving_and_ending(seed: int) -> None:
    dice, seats = random.Random(seed), Seats()
    pairs: list[tuple[Any, Any]] = []
    for turn in range(60):
        if len(pairs) < 5 and dice.random() < 0.3:
            length = dice.choice([1, 3, ROOM - 2, ROOM + 5])
            pairs.append((cache_of(length, turn), cache_of(length, turn)))
        if pairs and dice.random() < 0.15:
            seats.leave(pairs.pop(dice.randrange(len(pairs)))[0])
        group = [pair for pair in pairs if dice.random() < 0.7]
        if len(group) > 1:
            seeds = [dice.randrange(10**6) for _ in group]
            together(seats, [own for own, _ in group], seeds)
            for (_, expected), each in zip(group, seeds, strict=True):
                write(expected, token(each))
        elif group:  # alone
            own, expected = group[0]
            write(own, token(turn))
            write(expected, token(turn))
        for own, expected in pairs:
            assert own.get_seq_length() == expected.get_seq_length()
    for own, expected in pairs:
        assert equal(own, expected)
        seats.leave(own)


def test_who_stays_is_not_copied_again() -> None:
    seats, caches = Seats(), [cache_of(4, n) for n in range(3)]
    for turn in range(10):
        together(seats, caches, [turn, turn + 100, turn + 200])
    assert seats.copies == 3
    together(seats, caches[1:], [7, 8])
    assert seats.copies == 3
    together(seats, caches, [1, 2, 3])
    assert seats.copies == 4


def test_padding_at_the_beginning_takes_no_room() -> None:
    padded, short = cache_of(400, 1), cache_of(4, 2)
    expected = [state.clone() for state in written(padded)]
    mask = torch.ones(1, 401, dtype=torch.long)
    mask[0, :390] = 0
    mask[0, 395] = 0  # and one in the middle
    seats = Seats()
    seats.seat([padded, short], [mask, None])
    common, seen = seats.common()
    assert seen.tolist() == [[1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1], [1] * 5 + [0] * 6]
    assert common.get_seq_length() == 10
    assert padded.get_seq_length() == 400
    for found, state in zip(written(padded), expected, strict=True):
        assert torch.equal(found[:, :, 390:], state[:, :, 390:])
        assert not found[:, :, :390].any()


def test_a_forward_that_fails_has_changed_nothing() -> None:
    seats, caches = Seats(), [cache_of(4, n) for n in range(2)]
    expected = [cache_of(4, n) for n in range(2)]
    seats.seat(caches, [None, None])
    common, _ = seats.common()
    keys, values = token(5, rows=2)[0]
    common.update(keys, values, 0)  # and no further
    together(seats, caches, [11, 12])
    for own, seed in zip(expected, (11, 12), strict=True):
        write(own, token(seed))
    assert all(map(equal, caches, expected))


def test_what_was_no_number_stays_with_whom_it_belongs() -> None:
    seats = Seats()
    bad, good, new = cache_of(9, 1), cache_of(3, 2), cache_of(2, 3)
    for layer in bad.layers:
        layer.keys.fill_(float("nan"))
    together(seats, [good, bad], [1, 2])
    seats.leave(bad)
    together(seats, [good, new], [3, 4])
    seats.seat([good, new], [None, None])
    common, _ = seats.common()
    for index, (keys, values) in enumerate(token(9, rows=2)):
        found = common.update(keys, values, index)
        assert all(bool(states.isfinite().all()) for states in found)


def test_the_last_one_takes_the_memory_along() -> None:
    seats, caches = Seats(), [cache_of(4, n) for n in range(2)]
    together(seats, caches, [1, 2])
    seats.leave(caches[0])
    seats.leave(caches[0])
    assert (len(seats), len(seats._layers)) == (1, LAYERS)
    seats.leave(caches[1])
    assert (len(seats), len(seats._layers)) == (0, 0)


def test_only_the_usual_cache_of_one_request_is_taken() -> None:
    assert Seats.takes(cache_of(3, 1))
    assert not Seats.takes(None)
    assert not Seats.takes(DynamicCache())
    window = cache_of(3, 1)
    window.layers[1] = DynamicSlidingWindowLayer(8)
    window.update(*token(1)[0], 1)
    assert not Seats.takes(window)
    two = cache_of(3, 1)
    two.batch_repeat_interleave(2)
    assert not Seats.takes(two)
    assert not Seats.takes(Cache(layers=[DynamicLayer()]))
