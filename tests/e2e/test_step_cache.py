"""A real cluster that caches steps by itself: what its clients get, and what they are told."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.hooks import FirstBlockCacheConfig
from PIL import Image, ImageChops

from benchmarks.overhead import MODEL
from launch import Cluster
from tests.support.local_cluster import small_cluster

ASKED = {"prompt": "a red circle above a blue square", "seed": 4, "num_inference_steps": 8}
THRESHOLD = 0.3


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with small_cluster(MODEL, step_cache=f"first_block:{THRESHOLD}") as running:
        yield running


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    """Of the plain pipeline, with diffusers' own cache and without."""
    pipeline = DiffusionPipeline.from_pretrained(MODEL)
    pipeline.set_progress_bar_config(disable=True)

    def make() -> Image.Image:
        generator = torch.Generator("cpu").manual_seed(4)
        call = {name: value for name, value in ASKED.items() if name != "seed"}
        picture: Image.Image = pipeline(**call, generator=generator).images[0]
        return picture

    without = make()
    pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=THRESHOLD))
    return {"with": make(), "without": without}


def post(cluster: Cluster, **fields: Any) -> httpx.Response:
    url = f"{cluster.url}/v1/images/generations"
    return httpx.post(url, json={**ASKED, **fields}, timeout=120)


def picture_of(reply: httpx.Response) -> Image.Image:
    assert reply.status_code == 200, reply.text
    return Image.open(io.BytesIO(base64.b64decode(reply.json()["data"][0]["b64_json"])))


def same(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is None


def test_what_the_server_does_by_itself_is_named(
    cluster: Cluster, pictures: dict[str, Image.Image]
) -> None:
    reply = post(cluster)
    picture = picture_of(reply)
    assert same(picture, pictures["with"])
    assert not same(picture, pictures["without"]), "nothing was skipped: the test shows nothing"
    assert reply.headers["x-triptych-speed"] == f"step-cache=first_block:{THRESHOLD}"
    assert picture.info["speed"] == f"step-cache=first_block:{THRESHOLD}"


def test_a_request_without_it_is_exact_and_names_nothing(
    cluster: Cluster, pictures: dict[str, Image.Image]
) -> None:
    reply = post(cluster, step_cache={"type": "none"}, exact=True)
    picture = picture_of(reply)
    assert same(picture, pictures["without"])
    assert "x-triptych-speed" not in reply.headers
    assert "speed" not in picture.info


def test_exact_is_refused_with_what_is_in_its_way(cluster: Cluster) -> None:
    reply = post(cluster, exact=True)
    assert (reply.status_code, reply.json()["error"]["param"]) == (422, "exact")
    assert f"step-cache=first_block:{THRESHOLD}" in reply.json()["error"]["message"]


def test_a_keyed_request_names_it_too(cluster: Cluster) -> None:
    url = f"{cluster.url}/v1/images/generations"
    reply = httpx.post(url, json=ASKED, headers={"idempotency-key": "k"}, timeout=120)
    assert reply.headers["x-triptych-speed"] == f"step-cache=first_block:{THRESHOLD}"


def test_the_model_page_tells_it(cluster: Cluster) -> None:
    (page,) = httpx.get(f"{cluster.url}/v1/models").json()["data"]
    assert page["step_caches"] == ["first_block", "pyramid"]
    assert page["speed"]["step_cache"]["threshold"] == THRESHOLD
