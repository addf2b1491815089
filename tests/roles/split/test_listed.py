"""Pictures that a pipeline wants in a list even when there is one."""

import pytest
from diffusers import Flux2Pipeline, GlmImagePipeline, JoyImageEditPlusPipeline, ZImageOmniPipeline

from roles.split.given import accept, media_arguments


@pytest.mark.parametrize(
    ("kind", "name", "listed"),
    [
        (ZImageOmniPipeline, "image", True),  # annotated as a list
        (JoyImageEditPlusPipeline, "images", True),
        (GlmImagePipeline, "image", True),  # see roles.split.quirks
        (Flux2Pipeline, "image", False),
    ],
)
def test_one_picture_is_given_as_the_pipeline_wants_it(kind: type, name: str, listed: bool) -> None:
    known = media_arguments(kind.__call__)
    assert accept(known, {name: ["one"]})[name] == (["one"] if listed else "one")
    assert accept(known, {name: ["one", "two"]})[name] == ["one", "two"]
