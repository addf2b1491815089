"""Tiny random pipelines on two and four ranks: what one rank gives, within rounding.

One process imports everything and forks the ranks of all cases.
"""

from typing import Any

import pytest

from tests.support.ranks import Case, run_cases

PIPELINES = "tests.support.divided_pipelines:"
BATCHES = ["sdxl", "sd15", "zimage"]
BRANCHES = ["flux", "qwenimage", "wan"]
PLANNED = ["flux", "qwenimage_even", "flux2_klein"]
NAMES = [*BATCHES, *BRANCHES, *PLANNED[1:]]
DIVIDED = [
    *[("guidance", 2, name) for name in (*BATCHES, *BRANCHES)],
    *[("ulysses", 2, name) for name in BRANCHES],
    *[("guidance=2,ulysses=2", 4, name) for name in BRANCHES],
    *[("tensor", 2, name) for name in PLANNED],
    ("guidance=2,tensor=2", 4, "flux"),
]
ROUNDING = 1e-5

pytestmark = pytest.mark.timeout(900)  # a machine that has much else to do


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Any, ...], list[Any]]:
    folder = str(tmp_path_factory.mktemp("divided"))
    cases: dict[tuple[Any, ...], Case] = {
        ("built",): (f"{PIPELINES}reference", "guidance", 1, [NAMES, folder])
    }
    for parallel, ranks, name in DIVIDED:
        cases[parallel, name] = (f"{PIPELINES}compare", parallel, ranks, [name, folder])
    cases["exact",] = (f"{PIPELINES}compare", "guidance", 2, ["sdxl", folder, True])
    cases["sharded",] = (f"{PIPELINES}sharded", "tensor", 2, ["flux", folder])
    for parallel, ranks, name in (
        ("ulysses", 2, "sdxl"),
        ("ulysses", 4, "flux"),
        ("ring", 2, "flux"),
        ("tensor", 2, "wan"),
        ("tensor", 2, "qwenimage"),
    ):
        cases["refused", parallel, name] = (f"{PIPELINES}refused", parallel, ranks, [name, folder])
    found = run_cases(list(cases.values()), ["tests.support.divided_pipelines"])
    return dict(zip(cases, found, strict=True))


@pytest.mark.parametrize(("parallel", "ranks", "name"), DIVIDED)
def test_several_ranks_give_what_one_gives(
    told: dict[tuple[Any, ...], list[Any]], parallel: str, ranks: int, name: str
) -> None:
    every = told[parallel, name]
    assert len(every) == ranks
    for rank in every:
        assert rank["tensors"] == 2  # the latents, and the generator's state
        assert rank["apart"] <= ROUNDING
    assert len({rank["apart"] for rank in every}) == 1  # all ranks hold the same


@pytest.mark.parametrize("name", BRANCHES)
def test_branches_on_ranks_of_their_own_are_bit_for_bit_those_of_the_pipeline(
    told: dict[tuple[Any, ...], list[Any]], name: str
) -> None:
    for rank in told["guidance", name]:
        assert rank["apart"] == 0
        # three steps of two branches: the first step shows what a forward is like
        assert [samples for samples, _ in rank["forwards"][-2:]] == [1, 1]
        assert len(rank["forwards"]) == 5  # with one that is tried beside


@pytest.mark.parametrize("name", BATCHES)
def test_the_batch_of_classic_guidance_is_divided(
    told: dict[tuple[Any, ...], list[Any]], name: str
) -> None:
    for rank in told["guidance", name]:
        assert [samples for samples, _ in rank["forwards"]] == [1, 2, 1, 1]


def test_tokens_are_divided(told: dict[tuple[Any, ...], list[Any]]) -> None:
    whole = max(tokens for _, tokens in told["guidance", "flux"][0]["forwards"])
    for rank in told["ulysses", "flux"]:
        assert max(tokens for _, tokens in rank["forwards"]) == whole // 2


def test_a_request_that_is_to_be_exact_is_whole_in_each_rank(
    told: dict[tuple[Any, ...], list[Any]],
) -> None:
    for rank in told["exact",]:
        assert rank["apart"] == 0
        assert [samples for samples, _ in rank["forwards"]] == [2, 2, 2]


def test_weights_are_read_in_parts_and_stay_as_they_are(
    told: dict[tuple[Any, ...], list[Any]],
) -> None:
    for rank in told["sharded",]:
        assert rank.pop("share") < 0.8  # the tiny one has much that is not divided
        for what, reason in rank.items():
            assert reason.startswith("started with --parallel tensor=2: each rank has a part"), what


@pytest.mark.parametrize(
    ("parallel", "name", "reason"),
    [
        ("ulysses", "sdxl", "diffusers has no plan to divide the tokens of UNet2DConditionModel"),
        ("ulysses", "flux", "FluxTransformer2DModel has 2 attention heads, too few for ulysses=4"),
        ("ring", "flux", "ring needs --attention-backend flash, "),
        ("tensor", "wan", "diffusers has no plan to divide the weights of WanTransformer3DModel"),
        ("tensor", "qwenimage", "has 3 attention heads, which tensor=2 does not divide"),
    ],
)
def test_what_cannot_be_divided_is_refused_with_what_can(
    told: dict[tuple[Any, ...], list[Any]], parallel: str, name: str, reason: str
) -> None:
    for said in told["refused", parallel, name]:
        assert said.startswith(f"--parallel {parallel}=")
        assert reason in said
        assert said.endswith("goes with every model")
        assert "\n" not in said
