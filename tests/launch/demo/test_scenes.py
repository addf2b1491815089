"""Scenes: their wording, and the line between training and evaluation."""

import random

import pytest

from launch.demo.scenes import (
    KINDS,
    Lottery,
    Scene,
    Thing,
    caption,
    held_out_scenes,
    parse,
)

RED_CIRCLE, BLUE_SQUARE = Thing("red", "circle"), Thing("blue", "square")


@pytest.mark.parametrize(
    ("scene", "prompt"),
    [
        (Scene((Thing("orange", "heart"),)), "an orange heart"),
        (Scene((Thing("orange", "heart", "small"),)), "a small orange heart"),
        (Scene((RED_CIRCLE, BLUE_SQUARE), "above"), "a red circle above a blue square"),
        (
            Scene((RED_CIRCLE, BLUE_SQUARE), "left of", "black"),
            "a red circle left of a blue square on a black background",
        ),
        (
            Scene((Thing("green", "star"),) * 2, background="gray"),
            "two green stars on a gray background",
        ),
    ],
)
def test_prompt_and_back(scene: Scene, prompt: str) -> None:
    assert scene.prompt == prompt
    assert parse(prompt) == scene


@pytest.mark.parametrize("every", KINDS.values(), ids=KINDS)
def test_every_scene_reads_back(every) -> None:
    scenes = list(every())
    assert [parse(scene.prompt) for scene in scenes] == scenes
    assert len(set(scenes)) == len(scenes)


def test_white_may_be_named() -> None:
    assert parse("A red circle on a white background.") == Scene((RED_CIRCLE,))


@pytest.mark.parametrize("prompt", ["", "a cat", "a red circle on a pink background", "two stars"])
def test_other_prompts_are_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match="scene"):
        parse(prompt)


@pytest.mark.parametrize(
    ("things", "relation", "background"),
    [
        ((), "", "white"),
        ((RED_CIRCLE,), "above", "white"),
        ((RED_CIRCLE, BLUE_SQUARE), "", "white"),
        ((RED_CIRCLE, RED_CIRCLE), "above", "white"),
        ((RED_CIRCLE, BLUE_SQUARE), "inside", "white"),
        ((RED_CIRCLE,), "", "pink"),
        ((Thing("red", "circle", "big"), BLUE_SQUARE), "above", "white"),
    ],
)
def test_impossible_scenes_are_refused(things, relation: str, background: str) -> None:
    with pytest.raises(ValueError, match=r"scene|relation|one of|on its own"):
        Scene(things, relation, background)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="pink"):
        Thing("pink", "circle")


def test_every_kind_has_held_out_scenes_but_not_many() -> None:
    for every in KINDS.values():
        held = [scene.held_out for scene in every()]
        assert 0.05 < sum(held) / len(held) < 0.2


def test_a_mirrored_wording_is_held_out_too() -> None:
    mirrored = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
    for scene in KINDS["related"]():
        twin = Scene(scene.things[::-1], mirrored[scene.relation], "gray")
        assert scene.held_out == twin.held_out


def test_training_never_sees_a_held_out_scene() -> None:
    rng, lottery = random.Random(0), Lottery(held_out=False)
    assert not any(parse(caption(lottery.draw(rng), rng)).held_out for _ in range(2000))


def test_held_out_scenes_are_fixed_different_and_of_all_kinds() -> None:
    scenes = held_out_scenes(96)
    assert scenes == held_out_scenes(96)
    assert scenes != held_out_scenes(96, seed=1)
    assert len(set(scenes)) == 96
    assert all(scene.held_out for scene in scenes)
    assert {scene.kind for scene in scenes} == set(KINDS)
    assert {scene.background for scene in scenes} == {"white", "black", "gray"}


def test_more_scenes_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="fewer than"):
        held_out_scenes(1200)
