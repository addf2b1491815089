"""Scenes: what a demo picture shows, as a typed value, as a prompt, and drawn by lot.

A scene is one thing ("a small red circle"), two different things in a relation ("a red circle
above a blue square"), or twins ("two green stars"), on a white, black or gray background. White
is the default and may stay unsaid.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star", "heart")
SIZES = ("", "small", "big")
RELATIONS = ("above", "below", "left of", "right of")
BACKGROUNDS = ("white", "black", "gray")
MIRRORED = {"below": "above", "right of": "left of"}
HELD_OUT_SHARE = 10
"""One arrangement in so many is never shown in training."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape. `size` is "" (ordinary), "small" or "big"."""

    color: str
    shape: str
    size: str = ""

    def __post_init__(self) -> None:
        for word, known in ((self.color, COLORS), (self.shape, SHAPES), (self.size, SIZES)):
            if word not in known:
                raise ValueError(f"{word!r} is not one of {', '.join(known)}")

    def __str__(self) -> str:
        words = " ".join(word for word in (self.size, self.color, self.shape) if word)
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows: one thing; two with `relation` (of the first to the second); twins.

    Twins are the same thing twice with `relation` "", and stand side by side.
    """

    things: tuple[Thing, ...]
    relation: str = ""
    background: str = "white"

    def __post_init__(self) -> None:
        if self.background not in BACKGROUNDS:
            raise ValueError(f"{self.background!r} is not one of {', '.join(BACKGROUNDS)}")
        if not 1 <= len(self.things) <= 2:
            raise ValueError(f"a scene has one or two things, not {len(self.things)}")
        if len(self.things) == 2 and any(thing.size for thing in self.things):
            raise ValueError("only a thing on its own is small or big")
        if self.kind == "related" and self.relation not in RELATIONS:
            raise ValueError(f"{self.relation!r} is not one of {', '.join(RELATIONS)}")
        if self.kind != "related" and self.relation:
            raise ValueError("a relation holds between two different things")

    @property
    def kind(self) -> str:
        """One of "single", "related", "twins"."""
        if len(self.things) == 1:
            return "single"
        return "twins" if self.things[0] == self.things[1] else "related"

    @property
    def subject(self) -> str:
        """The prompt without its background: "a red circle above a blue square"."""
        first = self.things[0]
        if self.kind == "single":
            return str(first)
        if self.kind == "twins":
            return f"two {first.color} {first.shape}s"
        return f"{first} {self.relation} {self.things[1]}"

    @property
    def prompt(self) -> str:
        """The canonical prompt; a white background stays unsaid."""
        if self.background == "white":
            return self.subject
        return f"{self.subject} on a {self.background} background"

    @property
    def held_out(self) -> bool:
        """True when training never draws this arrangement, on no background and in no wording.

        "A left of B" and "B right of A" are one arrangement.
        """
        arrangement = self
        if self.relation in MIRRORED:
            arrangement = replace(self, things=self.things[::-1], relation=MIRRORED[self.relation])
        digest = hashlib.sha256(arrangement.subject.encode()).digest()
        return int.from_bytes(digest[:4], "big") % HELD_OUT_SHARE == 0


_ARTICLE = r"an? "
_BACKGROUND = re.compile(rf"^(.+?)(?: on a ({'|'.join(BACKGROUNDS)}) background)?$")
_THING = rf"{_ARTICLE}(?:(small|big) )?({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"
_ONE = re.compile(_THING)
_RELATED = re.compile(rf"{_THING} ({'|'.join(RELATIONS)}) {_THING}")
_TWINS = re.compile(rf"two ({'|'.join(COLORS)}) ({'|'.join(SHAPES)})s")


def parse(prompt: str) -> Scene:
    """The scene that a prompt in the wording of `Scene.prompt` asks for, else ValueError."""
    found = _BACKGROUND.match(" ".join(prompt.lower().split()).rstrip("."))
    if found is None:
        raise ValueError("an empty prompt describes no scene")
    subject, background = found[1], found[2] or "white"
    if match := _TWINS.fullmatch(subject):
        return Scene((Thing(match[1], match[2]),) * 2, background=background)
    if match := _ONE.fullmatch(subject):
        return Scene((Thing(match[2], match[3], match[1] or ""),), background=background)
    if match := _RELATED.fullmatch(subject):
        first = Thing(match[2], match[3], match[1] or "")
        second = Thing(match[6], match[7], match[5] or "")
        return Scene((first, second), match[4], background)
    raise ValueError(f"{prompt!r} is not in the wording of the demo scenes")


def singles() -> Iterator[Scene]:
    """Every scene of one thing, on white."""
    for size, color, shape in product(SIZES, COLORS, SHAPES):
        yield Scene((Thing(color, shape, size),))


def twins() -> Iterator[Scene]:
    """Every scene of twins, on white."""
    for color, shape in product(COLORS, SHAPES):
        yield Scene((Thing(color, shape),) * 2)


def related() -> Iterator[Scene]:
    """Every scene of two different things in a relation, on white."""
    things = [Thing(color, shape) for color, shape in product(COLORS, SHAPES)]
    for first, second, relation in product(things, things, RELATIONS):
        if first != second:
            yield Scene((first, second), relation)


KINDS = {"single": singles, "related": related, "twins": twins}


class Lottery:
    """Draws scenes by lot from either side of the hold-out line, the kinds in fixed shares.

    `weights` are the shares of single, related and twins scenes; half the scenes are on white.
    """

    def __init__(self, *, held_out: bool, weights: tuple[int, int, int] = (32, 56, 12)) -> None:
        self.weights = weights
        self.pools = [
            [scene for scene in every() if scene.held_out == held_out] for every in KINDS.values()
        ]

    def draw(self, rng: random.Random) -> Scene:
        """One scene; the same `rng` state gives the same scene."""
        pool = rng.choices(self.pools, self.weights)[0]
        background = rng.choice(("white", "white", "black", "gray"))
        return replace(rng.choice(pool), background=background)


def held_out_scenes(count: int, seed: int = 0) -> list[Scene]:
    """`count` different held-out scenes of all kinds, for evaluation; the same for a seed."""
    lottery, rng = Lottery(held_out=True, weights=(25, 60, 15)), random.Random(seed)
    scenes: dict[Scene, None] = {}
    for _ in range(100 * count):
        scenes[lottery.draw(rng)] = None
        if len(scenes) == count:
            return list(scenes)
    raise ValueError(f"there are fewer than {count} held-out scenes")


def caption(scene: Scene, rng: random.Random) -> str:
    """The prompt shown in training: white is named now and then, as a user might."""
    if scene.background == "white" and rng.random() < 0.2:
        return f"{scene.subject} on a white background"
    return scene.prompt
