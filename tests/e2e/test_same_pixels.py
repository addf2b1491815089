"""What comes out of three processes is what comes out of one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import ImageChops
from PIL.Image import Image

from launch import Cluster
from tests.support.local_cluster import REQUEST, whole_cluster


@pytest.fixture(scope="module")
def pipeline(model: Path) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def plain(pipeline: DiffusionPipeline, prompt: str, seed: int, **call: Any) -> Image:
    generator = torch.Generator("cpu").manual_seed(seed)
    size = {"width": 32, "height": 32, "num_inference_steps": 3}
    picture: Image = pipeline(prompt, generator=generator, **{**size, **call}).images[0]
    return picture


def same(one: Image, other: Image) -> bool:
    return one.size == other.size and ImageChops.difference(one, other).getbbox() is None


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_a_seed_gives_the_plain_pipelines_picture(
    cluster: Cluster, pipeline: DiffusionPipeline, seed: int
) -> None:
    [picture] = cluster.generate("a red circle", seed=seed, exact=True, **REQUEST)
    assert same(picture, plain(pipeline, "a red circle", seed))


def test_every_field_reaches_the_pipeline(cluster: Cluster, pipeline: DiffusionPipeline) -> None:
    [picture] = cluster.generate(
        "a star", seed=3, size=(48, 32), steps=4, guidance_scale=2.5, negative_prompt="blurry"
    )
    call = {"width": 48, "num_inference_steps": 4, "guidance_scale": 2.5}
    assert same(picture, plain(pipeline, "a star", 3, negative_prompt="blurry", **call))


def test_n_pictures_are_n_requests_with_the_next_seeds(cluster: Cluster) -> None:
    pictures = cluster.generate("a heart", seed=5, n=3, exact=True, **REQUEST)
    for number, picture in enumerate(pictures):
        [alone] = cluster.generate("a heart", seed=5 + number, exact=True, **REQUEST)
        assert same(picture, alone)
    assert not same(pictures[0], pictures[1])


def test_a_whole_pipeline_in_one_instance(model: Path, pipeline: DiffusionPipeline) -> None:
    with whole_cluster(model) as cluster:
        [picture] = cluster.generate("a red circle", seed=9, exact=True, **REQUEST)
    assert same(picture, plain(pipeline, "a red circle", 9))
