"""The `openai` package watches pictures being made by a real cluster."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image, ImageChops

from launch import Cluster
from tests.support.local_cluster import REQUEST

LONG = {"num_inference_steps": 60, "seed": 3, "exact": True}
SIZE = REQUEST["size"]
PARTIAL = "image_generation.partial_image"


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


def test_partial_images_of_a_job_are_among_its_events(cluster: Cluster) -> None:
    asked = {"prompt": "a star", "size": SIZE, "partial_images": 3, **LONG}
    with httpx.Client(base_url=cluster.url, timeout=60.0) as client:
        for _ in range(5):  # as above
            events = list(_events(client, client.post("/v1/jobs", json=asked).json()["id"]))
            if partial := [data for name, data in events if name == PARTIAL]:
                break
        name, job = events[-1]
        assert (name, job["status"]) == ("completed", "completed")
        final = Image.open(io.BytesIO(client.get(job["files"][0]["url"]).content))
    for index, data in enumerate(partial):
        assert data["partial_image_index"] == index
        picture = Image.open(io.BytesIO(base64.b64decode(data["b64_json"])))
        assert picture.size == final.size
        if index == 0:  # the last one may look like the picture itself
            assert ImageChops.difference(picture, final).getbbox() is not None
    assert partial
    steps = [e["progress"] for name, e in events if name == "progress"]
    denoised = [each["step"] for each in steps if each["stage"] == "denoiser"]
    assert denoised == sorted(denoised)
    assert denoised[-1] == LONG["num_inference_steps"]


def _events(client: httpx.Client, job: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with client.stream("GET", f"/v1/jobs/{job}/events") as reply:
        for line in reply.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def test_without_partial_images(sdk: openai.OpenAI) -> None:
    events = list(sdk.images.generate(prompt="a star", size=SIZE, stream=True, n=2))
    assert [event.type for event in events] == ["image_generation.completed"] * 2
