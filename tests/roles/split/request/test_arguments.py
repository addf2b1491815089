"""Which arguments of a pipeline's `__call__` are a request's to give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from roles.split.program import BadInput
from roles.split.request.inputs import accept, arguments


def pipeline_call(
    self,
    prompt: str | list[str] | None = None,
    image: Image.Image | list[Image.Image] | None = None,
    size: tuple[int, int] = (1, 1),
    boxes: list[list[float]] | None = None,
    scale: float | list[float] = 1,
    fast=False,
    eta: float = 0.0,
    generator: torch.Generator | list[torch.Generator] | None = None,
    latents: torch.Tensor | None = None,
    attention_kwargs: dict[str, Any] | None = None,
    num_images_per_prompt: int = 1,
    callback_on_step_end: Callable[[int], None] | None = None,
    _secret: bool = True,
    **others: Any,
) -> None: ...


KNOWN = arguments(pipeline_call)


def test_plain_arguments_are_offered_and_no_others():
    assert list(KNOWN) == ["prompt", "size", "boxes", "scale", "fast", "eta"]


def test_they_are_described_for_the_front_door():
    described = {name: argument.describe() for name, argument in KNOWN.items()}
    assert described["prompt"].type == "str"
    assert described["prompt"].required
    assert described["scale"].type == "float | list[float]"
    assert described["scale"].default == 1
    assert described["size"].default is None
    assert described["fast"].type == "bool"


def test_values_stay_as_they_are():
    given = {"prompt": "a", "scale": 3, "boxes": [[1, 2.5]], "eta": None}
    assert accept(KNOWN, given) == given
    assert type(accept(KNOWN, given)["scale"]) is int


def test_lists_become_what_the_pipeline_wants():
    assert accept(KNOWN, {"prompt": "a", "size": [3, 4]})["size"] == (3, 4)


def test_values_are_the_requests_own():
    boxes = [[1.0]]
    accept(KNOWN, {"prompt": "a", "boxes": boxes})["boxes"][0].append(2.0)
    assert boxes == [[1.0]]


@pytest.mark.parametrize(
    ("name", "value"),
    [("fast", 1), ("size", 3), ("size", ["a", "b"]), ("eta", [0.1]), ("_secret", False)],
)
def test_what_does_not_fit_is_named(name, value):
    with pytest.raises(BadInput) as caught:
        accept(KNOWN, {"prompt": "a", name: value})
    assert caught.value.param == name


def half_known(
    self,
    prompt: str | None = None,
    stages: list = [10, 10],  # noqa: B006  # as diffusers has it
    initial_audio_sampling_rate: torch.Tensor | None = None,
    callback: "NotInstalled | None" = None,  # noqa: F821
    *,
    fps: int = 16,
) -> None: ...


def test_an_annotation_that_names_what_is_not_installed_hides_no_other():
    assert accept(arguments(half_known), {"prompt": "x"})["prompt"] == "x"


def test_a_list_of_nothing_in_particular_is_of_what_its_default_has():
    known = arguments(half_known)
    assert accept(known, {"prompt": "x", "stages": [2, 3]})["stages"] == [2, 3]
    with pytest.raises(BadInput, match="stages"):
        accept(known, {"prompt": "x", "stages": ["two"]})


def test_arguments_that_are_only_given_by_name_are_too():
    assert accept(arguments(half_known), {"prompt": "x", "fps": 8})["fps"] == 8


def test_a_wrong_annotation_is_known():
    assert "initial_audio_sampling_rate" in arguments(half_known)


def opening_call(
    self,
    prompt: str,
    image: Image.Image | str | Path,
    fonts: list[str] | None = None,
    style: str | Path | None = None,
    depth_path: str | None = None,
    weights_file: str = "",
    video_url: str | None = None,
    lyrics: str = "",
) -> None: ...


def test_t16_no_argument_that_names_a_file_is_a_request_s_to_give():
    """T16. Some pipelines open what they are given by name: fonts, pictures, whatever is a path."""
    known = arguments(opening_call)
    assert list(known) == ["prompt", "lyrics"]
    for name in ("image", "fonts", "style", "depth_path", "weights_file", "video_url"):
        with pytest.raises(BadInput) as caught:
            accept(known, {"prompt": "a", name: "/etc/passwd"})
        assert caught.value.param == name
