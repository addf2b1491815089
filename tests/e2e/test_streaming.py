"""The `openai` package watches pictures being made by a real cluster."""

import base64
import io

import openai
import pytest
from PIL import Image, ImageChops

from launch import Cluster
from tests.support.local_cluster import REQUEST

LONG = {"num_inference_steps": 60, "seed": 3, "exact": True}
SIZE = REQUEST["size"]


@pytest.fixture
def sdk(cluster: Cluster):
    with openai.OpenAI(api_key="unused", base_url=f"{cluster.url}/v1", max_retries=0) as client:
        yield client


def seen(event) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(event.b64_json)))


def test_partial_images_and_the_same_final_one(sdk: openai.OpenAI) -> None:
    asked = {"prompt": "a star", "size": SIZE, "extra_body": LONG}
    plain = sdk.images.generate(**asked)
    # few decoders may be free at the right moment on a busy machine: at least one is, in the end
    for _ in range(5):
        *partial, last = list(sdk.images.generate(**asked, stream=True, partial_images=3))
        assert last.type == "image_generation.completed"
        assert last.usage.total_tokens == 0
        assert last.b64_json == plain.data[0].b64_json
        if partial:
            break
    assert partial
    for index, event in enumerate(partial):
        assert event.type == "image_generation.partial_image"
        assert event.partial_image_index == index
        assert seen(event).size == seen(last).size
        assert ImageChops.difference(seen(event), seen(last)).getbbox() is not None


def test_without_partial_images(sdk: openai.OpenAI) -> None:
    events = list(sdk.images.generate(prompt="a star", size=SIZE, stream=True, n=2))
    assert [event.type for event in events] == ["image_generation.completed"] * 2
