"""Reads a picture back into words and judges it against a scene, without any model.

What differs from the background falls into connected parts; the palette names a part's colour,
and the outline that it overlaps best names its shape. Nothing here knows how pictures were made,
so drawings and generated pictures are judged alike.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from launch.demo.drawing import CANVAS, OUTLINE, PALETTE, pixels
from launch.demo.scenes import Scene, Thing

UNCLEAR = "unclear"
"""Stands for a colour, shape or background that is none of the known ones."""
FAR_FROM_BACKGROUND = 45.0
"""A pixel at least this far (in RGB) from the background belongs to a thing."""
NEAR_COLOR = 70.0
"""A part further than this from every colour of the palette has no name."""
PURITY = 0.9
"""Share of a part's inner pixels that must be of its colour."""
SPECK, LITTER = 40, 60
"""Parts of fewer pixels are specks; specks of more pixels together are a fault."""
SMALL_BELOW, BIG_ABOVE = 21.0, 37.0
"""Radii in pixels between the sizes."""
GRID, REACH = 48, 1.7
"""Shapes are compared on a grid of GRID x GRID over REACH mean radii either side of the centre."""

_CROSS = ((0, 1), (0, -1), (1, 0), (-1, 0))
_DIAMOND = ((0, 2), (0, -2), (2, 0), (-2, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Offsets (y, x) one and two pixels away: what lies inside them is clear of a blurred rim."""

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing as read: its names, centre (x, y) and radius in pixels, and the shape's overlap."""

    color: str
    shape: str
    center: tuple[float, float]
    radius: float
    overlap: float

    @property
    def size(self) -> str:
        """The size word: "small", "" or "big"."""
        if self.radius < SMALL_BELOW:
            return "small"
        return "big" if self.radius > BIG_ABOVE else ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A picture as read. `litter` counts the pixels of specks that belong to nothing."""

    background: str
    things: tuple[Seen, ...]
    litter: int


def read(picture: Image.Image) -> Reading:
    """Names what a picture shows."""
    rgb = pixels(picture.convert("RGB")).astype(np.float64)
    ground = _ground(rgb)
    parts = list(_parts(np.linalg.norm(rgb - ground, axis=-1) >= FAR_FROM_BACKGROUND))
    things = tuple(_seen(rgb, part) for part in parts if part.sum() >= SPECK)
    litter = sum(int(part.sum()) for part in parts if part.sum() < SPECK)
    return Reading(_nearest(ground, CANVAS), things, litter)


def judge(scene: Scene, reading: Reading) -> list[str]:
    """What is wrong with a picture of the scene; empty when it is entirely right."""
    faults = []
    if reading.background != scene.background:
        faults.append(f"background is {reading.background}, not {scene.background}")
    if reading.litter > LITTER:
        faults.append(f"{reading.litter} stray pixels")
    if len(reading.things) != len(scene.things):
        return [*faults, f"{len(reading.things)} things, not {len(scene.things)}"]
    in_order = sorted(reading.things, key=lambda seen: _rank(seen, scene))
    for thing, seen in zip(scene.things, in_order, strict=True):
        faults += _differences(thing, seen, sized=scene.kind == "single")
    if len(in_order) == 2:
        faults += _misplaced(scene, *in_order)
    return faults


def _rank(seen: Seen, scene: Scene) -> tuple[int, tuple[float, float]]:
    """Order in which things are compared: most like the scene's first, then left to right."""
    first, last = scene.things[0], scene.things[-1]

    def unlike(thing: Thing) -> int:
        return (seen.color != thing.color) + (seen.shape != thing.shape)

    return unlike(first) - unlike(last), seen.center


def _differences(thing: Thing, seen: Seen, sized: bool) -> list[str]:
    faults = []
    if seen.color != thing.color:
        faults.append(f"{thing.color} {thing.shape} is {seen.color}")
    if seen.shape != thing.shape:
        faults.append(f"{thing.color} {thing.shape} is {seen.shape} in shape")
    if sized and seen.size != thing.size:
        faults.append(f"{thing.shape} is {seen.size or 'ordinary'}, not {thing.size or 'ordinary'}")
    return faults


def _misplaced(scene: Scene, first: Seen, second: Seen) -> list[str]:
    right, down = (second.center[k] - first.center[k] for k in (0, 1))
    if max(abs(right), abs(down)) < 1.5 * min(abs(right), abs(down)):
        return ["the things stand askew"]
    if abs(right) > abs(down):
        actual = "left of" if right > 0 else "right of"
    else:
        actual = "above" if down > 0 else "below"
    wanted = scene.relation or "left of"
    return [] if actual == wanted else [f"first thing is {actual}, not {wanted} the second"]


def _ground(rgb: Pixels) -> Pixels:
    """The background's colour: the median of the outermost two pixels all around."""
    frame = [rgb[:2], rgb[-2:], rgb[:, :2], rgb[:, -2:]]
    return np.asarray(np.median(np.concatenate([side.reshape(-1, 3) for side in frame]), axis=0))


def _nearest(color: Pixels, names: dict[str, tuple[int, int, int]]) -> str:
    distance = {name: float(np.linalg.norm(color - known)) for name, known in names.items()}
    best = min(distance, key=distance.__getitem__)
    return best if distance[best] <= NEAR_COLOR else UNCLEAR


def _parts(mask: Mask) -> Iterator[Mask]:
    """The connected parts of a mask (sides and corners touch), each as a mask."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    while left:
        edge, part = [left.pop()], np.zeros_like(mask)
        while edge:
            y, x = edge.pop()
            part[y, x] = True
            beside = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= beside
            edge += beside
        yield part


def _seen(rgb: Pixels, part: Mask) -> Seen:
    rows, columns = np.nonzero(part)
    center = float(columns.mean()), float(rows.mean())
    mean_radius = math.sqrt(part.sum() / math.pi)
    gridded = _on_grid(part, center, mean_radius)
    overlaps = {shape: _overlap(gridded, template) for shape, template in _templates().items()}
    best = max(overlaps, key=overlaps.__getitem__)
    shape = best if overlaps[best] >= _least_overlap(best) else UNCLEAR
    radius = math.sqrt(part.sum() / _unit_area(best))
    return Seen(_color(rgb, part), shape, center, radius, overlaps[best])


def _color(rgb: Pixels, part: Mask) -> str:
    """The colour of a part's inside, UNCLEAR when mixed."""
    inner = rgb[_inner(part, _DIAMOND)]
    if not len(inner):
        return UNCLEAR
    known = np.array(list(PALETTE.values()), dtype=np.float64)
    nearest = np.linalg.norm(inner[:, None] - known, axis=-1).argmin(axis=1)
    share = np.bincount(nearest, minlength=len(known)) / len(nearest)
    name = _nearest(np.median(inner, axis=0), PALETTE)
    return name if share.max() >= PURITY else UNCLEAR


def _inner(part: Mask, reach: tuple[tuple[int, int], ...]) -> Mask:
    """The pixels of a part whose neighbours at all offsets (y, x) of `reach` belong to it too."""
    height, width = part.shape
    padded = np.pad(part, 2)
    windows = [padded[2 + y : 2 + y + height, 2 + x : 2 + x + width] for y, x in reach]
    return np.asarray(part & np.logical_and.reduce(windows))


def _on_grid(part: Mask, center: tuple[float, float], mean_radius: float) -> Mask:
    """The part moved to the middle of the grid and scaled to the same area."""
    step = 2 * REACH * mean_radius / GRID
    corner = [middle + 0.5 - REACH * mean_radius for middle in center]
    affine = (step, 0.0, corner[0], 0.0, step, corner[1])
    image = Image.fromarray(part.astype(np.uint8) * 255)
    moved = image.transform((GRID, GRID), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    return np.asarray(moved) >= 128


def _overlap(ours: Mask, template: Mask) -> float:
    return float((ours & template).sum() / (ours | template).sum())


@functools.cache
def _templates() -> dict[str, Mask]:
    """Each shape drawn large and brought onto the grid."""
    grids = {}
    for shape in OUTLINE:
        part = _large(shape)
        rows, columns = np.nonzero(part)
        middle = float(columns.mean()), float(rows.mean())
        grids[shape] = _on_grid(part, middle, math.sqrt(part.sum() / math.pi))
    return grids


@functools.cache
def _least_overlap(shape: str) -> float:
    """The overlap of a shape whose outline is off by one cell of the grid all around.

    That is 7 % of its mean radius, alike for all: 0.88 for a circle, 0.79 for a star, whose outline
    is long for its area.
    """
    template = _templates()[shape]
    return float(_inner(template, _CROSS).sum() / template.sum())


@functools.cache
def _unit_area(shape: str) -> float:
    """Area of a shape of radius 1."""
    return float(_large(shape).sum()) / 200**2


def _large(shape: str) -> Mask:
    """A shape of radius 200 pixels."""
    image = Image.new("L", (480, 480))
    points = [(240 + x, 240 + y) for x, y in OUTLINE[shape](200.0)]
    ImageDraw.Draw(image).polygon(points, fill=255)
    return np.asarray(image) > 0
