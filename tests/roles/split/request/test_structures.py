"""Arguments that are objects, and rows of pictures: told by annotations, and made of a request."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
from diffusers import LTX2ConditionPipeline, LTXConditionPipeline, StableDiffusionPipeline
from PIL import Image

from roles.split.program import BadInput, Call
from roles.split.request import given, inputs
from roles.split.request.structures import made, plain, structures
from transfer.messages import Inputs, MediaField, Parameter

PICTURE, OTHER = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "red")


@dataclass
class Moment:
    frames: Image.Image | list[Image.Image] | np.ndarray | torch.Tensor
    index: int = 0
    strength: float = 1.0


@dataclass
class Action:
    mode: Literal["walk", "run"]
    image: Image.Image | np.ndarray | None = None
    raw: torch.Tensor | None = None


@dataclass
class Unknown:
    raw: torch.Tensor


class _Pipeline:
    def __call__(
        self,
        prompt: str,
        image: Image.Image | list[Image.Image] | None = None,
        conditions: Moment | list[Moment] | None = None,
        action: Action | None = None,
        other: Unknown | None = None,
    ) -> Any: ...


KNOWN = structures(_Pipeline.__call__)
MEDIA = given.media_arguments(_Pipeline.__call__)
ARGUMENTS = inputs.arguments(_Pipeline.__call__)


def arguments(params: dict[str, Any], media: dict[str, Any] | None = None) -> dict[str, Any]:
    call = Call("r", Inputs({"prompt": "a", **params}, 0), media or {})
    return plain(ARGUMENTS, call) | made(KNOWN, MEDIA, call)


def test_annotations_say_which_there_are() -> None:
    conditions, action = (one.describe() for one in KNOWN.values())
    assert (conditions.name, conditions.type, conditions.several) == ("conditions", "Moment", True)
    assert conditions.media == [MediaField("frames", ["film", "picture"], True)]
    assert conditions.fields == [
        Parameter("index", "int", False, 0),
        Parameter("strength", "float", False, 1.0),
    ]
    assert (action.several, action.required) == (False, False)
    assert action.fields == [Parameter("mode", "str", True)]
    assert action.media == [MediaField("image", ["picture"], False)]


def test_those_of_diffusers() -> None:
    ltx2, ltx = (
        structures(kind.__call__)["conditions"]
        for kind in (LTX2ConditionPipeline, LTXConditionPipeline)
    )
    assert ltx2.media == {"frames": ["film", "picture"]}
    assert list(ltx2.fields) == ["index", "strength", "crf"]
    assert ltx.media == {"image": ["picture"], "video": ["film"]}
    assert list(ltx.fields) == ["frame_index", "strength"]
    assert structures(StableDiffusionPipeline.__call__) == {}


def test_objects_are_made_of_what_stands_in_their_places() -> None:
    film = [PICTURE, OTHER]
    params = {"conditions.1.index": -1, "conditions.1.strength": 1, "action.mode": "run"}
    media = {
        "conditions.1.frames": [film],
        "conditions.0.frames": [PICTURE],
        "action.image": [OTHER],
    }
    assert arguments(params, media) == {
        "prompt": "a",
        "conditions": [Moment(PICTURE), Moment(film, -1, 1)],
        "action": Action("run", OTHER),
    }


def test_several_pictures_in_a_place_are_the_frames_of_a_film() -> None:
    (one,) = arguments({}, {"conditions.0.frames": [PICTURE, OTHER]})["conditions"]
    assert one.frames == [PICTURE, OTHER]


def test_rows_are_rows_even_of_one() -> None:
    media = {"image.1.0": [OTHER], "image.0.1": [PICTURE], "image.0.0": [OTHER]}
    assert arguments({"image.1.1": None}, media)["image"] == [[OTHER, PICTURE], [OTHER, None]]
    assert arguments({"image.0.1": None}, {"image.0.0": [PICTURE]})["image"] == [[PICTURE, None]]


@pytest.mark.parametrize(
    ("params", "media", "param"),
    [
        ({"conditions.0.index": 1}, {}, "conditions.0.frames"),
        ({}, {"conditions.1.frames": [PICTURE]}, "conditions.0"),
        ({"conditions.0.index": "a"}, {"conditions.0.frames": [PICTURE]}, "conditions.0.index"),
        ({"conditions.0.crf": 1}, {"conditions.0.frames": [PICTURE]}, "conditions.0.crf"),
        ({"conditions.index": 1}, {}, "conditions.index"),
        ({}, {"action.image": [PICTURE]}, "action.mode"),
        ({"other.raw": 1}, {}, "other.raw"),
        ({"prompt.0.1": 1}, {}, "prompt.0.1"),
        ({}, {"image.0.1": [PICTURE]}, "image.0.0"),
        ({}, {"image.0": [PICTURE]}, "image.0"),
        ({}, {"image.0.99": [PICTURE]}, "image.0.99"),
    ],
)
def test_what_is_wrong_is_named(params: Any, media: Any, param: str) -> None:
    with pytest.raises(BadInput) as caught:
        arguments(params, media)
    assert caught.value.param == param
