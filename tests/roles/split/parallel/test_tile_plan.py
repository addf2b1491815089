"""Which tiles a decoding has, who computes them, and that it is the same picture: with ranks that
are played in one process."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from roles.rank.world import RankFailed
from roles.split.parallel.tile_plan import TilePlan, planned, shares
from roles.split.parallel.tiles import divide_tiles
from roles.split.program import ModelError
from tests.support.played_ranks import PlayedWorld, play
from tests.support.tiled import DECODERS, Played

NAMES = ("kl", "wan", "cogvideox", "ltx with noise", "magvit")
Pair = tuple[Played, Played]  # the same decoder in each of two ranks


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[str, Pair]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny ones: more would only wait for each other
    yield {name: (Played(name), Played(name)) for name in NAMES}
    torch.set_num_threads(threads)


def of(played: Played, tiled: bool = True) -> TilePlan:
    played.vae.use_tiling = tiled
    try:
        return planned(played.vae, lambda: played.vae.decode(played.latents, **played.named))
    finally:
        played.vae.use_tiling = False


def test_the_largest_tile_first_each_to_who_has_least() -> None:
    costs = [1, 4, 2, 2, 3]
    owners = shares(costs, 2)
    loads = [sum(c for c, owner in zip(costs, owners, strict=True) if owner == r) for r in (0, 1)]
    assert loads == [6, 6]
    assert owners == shares(costs, 2)


def test_there_may_be_more_ranks_than_tiles() -> None:
    assert shares([5, 5], 4) == [0, 1]
    assert shares([], 4) == []


def test_tiles_and_their_forms_are_known_before_any_is_computed(pairs: dict[str, Pair]) -> None:
    with pairs["kl"][0].computing() as computed:
        plan = of(pairs["kl"][0])
        assert not computed
    assert plan.why_not is None
    # 9 x 10 latents, tiles of 4 that overlap by one
    assert plan.tiles == len(plan.pieces) == 3 * 4
    assert plan.pieces[0].shape == (2, 3, 32, 32)
    assert plan.pieces[-1].shape == (2, 3, 24, 8)
    assert plan.pieces[0].cost == 2 * 4 * 4 * 4
    assert sorted(set(plan.owners(3))) == [0, 1, 2]


@pytest.mark.parametrize(("name", "calls"), [("wan", 3), ("cogvideox", 2)])
def test_the_frames_of_a_causal_decoder_are_one_tile(
    pairs: dict[str, Pair], name: str, calls: int
) -> None:
    plan = of(pairs[name][0])
    assert plan.why_not is None
    assert plan.tiles > 1
    assert len(plan.pieces) == calls * plan.tiles
    owners = plan.owners(2)
    assert [owners[i : i + calls] for i in range(0, len(owners), calls)] == [
        [owner] * calls for owner in owners[::calls]
    ]
    assert of(pairs[name][0], tiled=False).tiles == 1


def test_a_decoder_that_keeps_something_within_itself_is_not_divided(
    pairs: dict[str, Pair],
) -> None:
    assert of(pairs["magvit"][0]).why_not == "its decoder keeps something from one call to the next"


@pytest.mark.parametrize("name", ["kl", "wan"])
def test_ranks_share_out_the_tiles_of_one(pairs: dict[str, Pair], name: str) -> None:
    first, second = pairs[name]
    with first.computing() as whole:
        known = first.whole()
    with first.computing() as one, second.computing() as other:
        told = play(lambda world: pairs[name][world.rank].divided(world), 2)
    assert one
    assert other
    assert sorted(one + other) == sorted(whole)
    for made, sparing in told:
        assert torch.equal(made, known)
        assert sparing.way == "tiles"
        assert not first.vae.use_tiling


def test_a_decoder_that_draws_random_numbers_is_found_out(pairs: dict[str, Pair]) -> None:
    pair, divided = pairs["ltx with noise"], []

    def decode(world: Any) -> Any:
        played = pair[world.rank]
        divided.append(divide_tiles({"vae": played.vae}, world))
        whole = partial(played.vae.decode, played.latents, **played.named)
        made, in_tiles = divided[-1].decode(played.vae, whole, played.latents)
        return in_tiles, made.sample.shape

    shape = pair[0].whole().shape
    assert play(decode, 2) == [(True, shape)] * 2
    for tiles in divided:
        (plan,) = tiles._plans.values()
        assert plan.why_not == "they depend on each other, or on chance"


def test_what_is_exact_or_no_larger_than_a_tile_is_whole(pairs: dict[str, Pair]) -> None:
    small = (Played("kl", (1, 4, 4, 4)), Played("kl", (1, 4, 4, 4)))
    stateful = (Played("magvit", (1, 4, 3, 4, 4)), Played("magvit", (1, 4, 3, 4, 4)))
    for pair, exact in ((pairs["kl"], True), (small, False), (stateful, False)):
        whole = pair[0].whole(tiled=False)
        told = play(lambda world, pair=pair, exact=exact: pair[world.rank].divided(world, exact), 2)
        for made, sparing in told:
            assert torch.equal(made, whole)
            assert sparing.way is None


def test_an_error_in_one_rank_is_one_in_all(pairs: dict[str, Pair]) -> None:
    with pairs["kl"][1].scripted(ValueError("scripted")):
        told = play(lambda world: pairs["kl"][world.rank].divided(world), 2)
    assert [type(error) for error in told] == [RankFailed, ValueError]
    assert str(told[0]) == "rank 1: ValueError: scripted"


def test_a_model_without_tiles_is_refused() -> None:
    world: Any = PlayedWorld(0, "tiles", 2)
    with pytest.raises(ModelError, match="AutoencoderKLTemporalDecoder does not decode in tiles"):
        divide_tiles({"vae": DECODERS["temporal"][0]()}, world)
    with pytest.raises(ModelError, match="the model has no decoder"):
        divide_tiles({}, world)
