"""The reader: right on every true drawing, and sharp on wrong ones."""

import random
from dataclasses import replace

import pytest
from PIL import Image, ImageDraw

from launch.demo.drawing import CANVAS, PALETTE, draw, outline
from launch.demo.reader import UNCLEAR, judge, read
from launch.demo.scenes import COLORS, SHAPES, Lottery, Scene, Thing, parse


def faults(wanted: str, shown: str, seed: int = 0) -> list[str]:
    """What is wrong with a drawing of `shown` when `wanted` was asked for."""
    return judge(parse(wanted), read(draw(parse(shown), random.Random(seed))))


def canvas(background: str = "white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (128, 128), CANVAS[background])
    return picture, ImageDraw.Draw(picture)


def test_drawings_are_right() -> None:
    rng = random.Random(7)
    lotteries = [Lottery(held_out=False), Lottery(held_out=True)]
    for number in range(150):
        scene = lotteries[number % 2].draw(rng)
        assert judge(scene, read(draw(scene, rng))) == [], scene.prompt


@pytest.mark.parametrize("size", ["", "small", "big"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shape_and_size_are_read(shape: str, size: str) -> None:
    scene = Scene((Thing("purple", shape, size),), background="gray")
    seen = read(draw(scene, random.Random(3))).things[0]
    assert (seen.color, seen.shape, seen.size) == ("purple", shape, size)
    assert seen.overlap > 0.9


@pytest.mark.parametrize("shown", COLORS)
def test_another_color_is_a_fault(shown: str) -> None:
    for wanted in COLORS:
        assert bool(faults(f"a {wanted} star", f"a {shown} star")) == (wanted != shown)


@pytest.mark.parametrize("shown", SHAPES)
def test_another_shape_is_a_fault(shown: str) -> None:
    for wanted in SHAPES:
        assert bool(faults(f"a red {wanted}", f"a red {shown}")) == (wanted != shown)


@pytest.mark.parametrize(
    ("wanted", "shown", "fault"),
    [
        ("a red star above a blue heart", "a red star below a blue heart", "below, not above"),
        ("a red star above a blue heart", "a red star left of a blue heart", "left of, not above"),
        ("a red star left of a red heart", "a red heart left of a red star", "right of, not left"),
        ("a red star above a blue heart", "a blue star above a red heart", "is"),
        ("a red star above a blue heart", "a red star", "1 things, not 2"),
        ("a red star", "two red stars", "2 things, not 1"),
        ("two red stars", "a red star above a red heart", "in shape"),
        ("two red stars", "a red star left of a blue star", "is blue"),
        ("a red star on a black background", "a red star", "background is white, not black"),
        ("a red star", "a red star on a gray background", "background is gray, not white"),
        ("a small red star", "a red star", "star is ordinary, not small"),
        ("a red star", "a big red star", "star is big, not ordinary"),
    ],
)
def test_wrong_scenes_are_named(wanted: str, shown: str, fault: str) -> None:
    found = faults(wanted, shown)
    assert any(fault in one for one in found), found


def test_mirrored_wording_is_right() -> None:
    assert faults("a red star above a blue heart", "a blue heart below a red star") == []


def test_stacked_twins_are_a_fault() -> None:
    picture, pencil = canvas()
    for y in (32, 96):
        pencil.polygon(outline("star", (64, y), 22), fill=PALETTE["red"])
    assert judge(parse("two red stars"), read(picture)) == [
        "first thing is above, not left of the second"
    ]


def test_things_on_the_diagonal_are_a_fault() -> None:
    picture, pencil = canvas()
    pencil.polygon(outline("star", (32, 32), 22), fill=PALETTE["red"])
    pencil.polygon(outline("heart", (96, 96), 22), fill=PALETTE["blue"])
    found = judge(parse("a red star left of a blue heart"), read(picture))
    assert found == ["the things stand askew"]


def test_a_mixed_color_is_unclear() -> None:
    picture, pencil = canvas()
    pencil.rectangle((40, 40, 88, 88), fill=PALETTE["red"])
    pencil.rectangle((40, 64, 88, 88), fill=PALETTE["blue"])
    assert [seen.color for seen in read(picture).things] == [UNCLEAR]


def test_a_color_off_the_palette_is_unclear() -> None:
    picture, pencil = canvas()
    pencil.rectangle((40, 40, 88, 88), fill=(0, 255, 255))
    assert [seen.color for seen in read(picture).things] == [UNCLEAR]


@pytest.mark.parametrize("height", [20, 36])
def test_an_oblong_is_no_square(height: int) -> None:
    picture, pencil = canvas()
    pencil.rectangle((40, 40, 88, 40 + height), fill=PALETTE["green"])
    assert [seen.shape for seen in read(picture).things] == [UNCLEAR]


def test_a_square_on_its_corner_is_unclear() -> None:
    picture, pencil = canvas()
    pencil.regular_polygon((64, 64, 28), 4, rotation=45, fill=PALETTE["green"])
    assert [seen.shape for seen in read(picture).things] == [UNCLEAR]


def test_a_star_without_an_arm_is_unclear() -> None:
    picture = draw(parse("a red star"), random.Random(0))
    middle = read(picture).things[0].center
    ImageDraw.Draw(picture).rectangle((0, 0, 127, middle[1] - 11), fill=CANVAS["white"])
    assert [seen.shape for seen in read(picture).things] == [UNCLEAR]


def test_a_shape_upside_down_is_a_fault() -> None:
    picture = draw(parse("a red triangle"), random.Random(0)).rotate(180)
    assert judge(parse("a red triangle"), read(picture))


def test_litter_is_a_fault() -> None:
    picture = draw(parse("a red circle"), random.Random(0))
    pencil = ImageDraw.Draw(picture)
    for x in range(4, 124, 10):
        pencil.rectangle((x, 4, x + 3, 7), fill=PALETTE["blue"])
    assert judge(parse("a red circle"), read(picture)) == ["192 stray pixels"]


def test_a_pink_background_is_unclear() -> None:
    picture = Image.new("RGB", (128, 128), (250, 120, 180))
    assert read(picture).background == UNCLEAR
    assert read(picture).things == ()


def test_the_order_of_equal_faults_is_stable() -> None:
    scene = parse("two red stars")
    reading = read(draw(scene, random.Random(1)))
    assert judge(scene, replace(reading, things=reading.things[::-1])) == []
