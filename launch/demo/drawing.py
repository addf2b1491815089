"""Draws a scene as a picture of 128 x 128 pixels: the ground truth that the demo model learns."""

import math
import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from launch.demo.scenes import Scene, Thing

SIZE = 128
"""Height and width of a picture in pixels."""
OVERSAMPLING = 2
PALETTE = {
    "red": (220, 40, 40),
    "green": (40, 170, 70),
    "blue": (45, 85, 220),
    "yellow": (245, 205, 40),
    "purple": (150, 60, 190),
    "orange": (245, 135, 35),
}
CANVAS = {"white": (250, 250, 250), "black": (15, 15, 18), "gray": (150, 150, 155)}
RADIUS = {"small": (13.0, 18.0), "": (24.0, 32.0), "big": (42.0, 50.0)}
"""Range of the radius in pixels of a thing on its own, by its size word."""
RADIUS_OF_TWO = (19.0, 25.0)
WANDER = {"small": 18.0, "": 12.0, "big": 6.0}
"""How far from the middle a thing on its own may stand, in pixels."""

Point = tuple[float, float]
Color = tuple[int, int, int]


def _square(radius: float) -> list[Point]:
    side = radius * 0.86
    return [(-side, -side), (side, -side), (side, side), (-side, side)]


def _triangle(radius: float) -> list[Point]:
    return [(0, -radius), (radius * 0.95, radius * 0.8), (-radius * 0.95, radius * 0.8)]


def _star(radius: float) -> list[Point]:
    lengths = (radius * 1.05, radius * 0.45)
    angles = [math.pi * k / 5 - math.pi / 2 for k in range(10)]
    return [
        (lengths[k % 2] * math.cos(angle), lengths[k % 2] * math.sin(angle))
        for k, angle in enumerate(angles)
    ]


def _heart(radius: float) -> list[Point]:
    def at(t: float) -> Point:
        x = math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        return x * radius, -(y + 2.5) / 14.5 * radius

    return [at(2 * math.pi * k / 40) for k in range(40)]


def _circle(radius: float) -> list[Point]:
    angles = [2 * math.pi * k / 64 for k in range(64)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


OUTLINE = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
}
"""Shape → its outline around (0, 0) for a radius, as a polygon, y downwards."""


def outline(shape: str, center: Point, radius: float) -> list[Point]:
    """The polygon of a shape around `center`."""
    return [(center[0] + x, center[1] + y) for x, y in OUTLINE[shape](radius)]


def _shade(color: Color, rng: random.Random) -> Color:
    """The colour a little lighter or darker; its hue stays, so that white has no tint."""
    offset = rng.uniform(-6, 6)
    red, green, blue = (min(255, max(0, round(part + offset))) for part in color)
    return red, green, blue


def _radius(limits: tuple[float, float], spread: float, rng: random.Random) -> float:
    middle, half = (limits[0] + limits[1]) / 2, (limits[1] - limits[0]) / 2 * spread
    return rng.uniform(middle - half, middle + half)


def _place_one(thing: Thing, spread: float, rng: random.Random) -> list[tuple[Point, float]]:
    far, middle = WANDER[thing.size] * spread, SIZE / 2
    center = middle + rng.uniform(-far, far), middle + rng.uniform(-far, far)
    return [(center, _radius(RADIUS[thing.size], spread, rng))]


def _place_two(scene: Scene, spread: float, rng: random.Random) -> list[tuple[Point, float]]:
    """Centers and radii of two things: apart along one axis, nearly level along the other."""
    relation = scene.relation or "left of"
    apart = 33 + rng.uniform(-3, 3) * spread
    sign = -1 if relation in ("above", "left of") else 1
    radii = [_radius(RADIUS_OF_TWO, spread, rng) for _ in scene.things]
    if scene.kind == "twins":
        radii[1] = radii[0]
    placed = []
    for radius, side in zip(radii, (sign, -sign), strict=True):
        along, across = SIZE / 2 + side * apart, SIZE / 2 + rng.uniform(-5, 5) * spread
        center = (across, along) if relation in ("above", "below") else (along, across)
        placed.append((center, radius))
    return placed


def draw(scene: Scene, rng: random.Random, spread: float = 1.0) -> Image.Image:
    """The scene as an RGB picture; place, size and shade vary with `rng` within the prompt.

    `spread` is the share of the range of places and sizes that is used, 0 for always the middle.
    """
    side = SIZE * OVERSAMPLING
    picture = Image.new("RGB", (side, side), _shade(CANVAS[scene.background], rng))
    pencil = ImageDraw.Draw(picture)
    if len(scene.things) == 1:
        places = _place_one(scene.things[0], spread, rng)
    else:
        places = _place_two(scene, spread, rng)
    for thing, (center, radius) in zip(scene.things, places, strict=True):
        points = outline(thing.shape, center, radius)
        scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        pencil.polygon(scaled, fill=_shade(PALETTE[thing.color], rng))
    return picture.resize((SIZE, SIZE), Image.Resampling.BOX)


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """The picture as `[height, width, 3]` bytes."""
    return np.asarray(picture, dtype=np.uint8)
