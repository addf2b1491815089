"""All roles in one process, and what `up` chooses by itself, with real processes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import ImageChops
from PIL.Image import Image

from launch import Cluster
from launch.machine import cuda_devices, usable_cores
from launch.plan import ALL_ROLES
from tests.support.local_cluster import REQUEST, eventually, in_background, instance_of

SMALL = {"slots": 8, "slot_bytes": "256KiB", "start_timeout": 300}
LONG = {"size": "32x32", "steps": 200}  # long enough for something to happen meanwhile


@pytest.fixture(scope="module")
def cluster(model: Path) -> Iterator[Cluster]:
    """Two instances with all roles, which share the cores of this machine."""
    with Cluster(model, all_in_one=2, device="cpu", **SMALL) as running:
        yield running


@pytest.fixture(scope="module")
def pipeline(model: Path) -> DiffusionPipeline:
    pipeline = DiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def threads_of_one() -> Iterator[None]:
    """This process computes with as many threads as each of the two."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, usable_cores() // 2))
    yield
    torch.set_num_threads(before)


def plain(pipeline: DiffusionPipeline, seed: int) -> Image:
    generator = torch.Generator("cpu").manual_seed(seed)
    size = {"width": 32, "height": 32, "num_inference_steps": 3}
    picture: Image = pipeline("a red circle", generator=generator, **size).images[0]
    return picture


def furthest(one: Image, other: Image) -> int:
    """By how many of 255 levels two pictures differ at most."""
    assert one.size == other.size
    bands = ImageChops.difference(one, other).getextrema()
    return max(high for _, high in bands)  # type: ignore[union-attr,has-type,misc]


def test_each_process_serves_all_roles(cluster: Cluster) -> None:
    instances = cluster.processes[1:]
    assert [(each["role"], each["name"]) for each in instances] == [
        (ALL_ROLES, "all-0"),
        (ALL_ROLES, "all-1"),
    ]
    roles = cluster.status()["roles"]
    for role in ("encoder", "denoiser", "decoder"):
        assert [each["name"] for each in roles[role]] == ["all-0", "all-1"]


@pytest.mark.usefixtures("threads_of_one")
def test_what_is_exact_has_the_plain_pixels(cluster: Cluster, pipeline: DiffusionPipeline) -> None:
    for seed in (1, 2, 3):
        [picture] = cluster.generate("a red circle", seed=seed, exact=True, **REQUEST)
        assert furthest(picture, plain(pipeline, seed)) == 0


@pytest.mark.usefixtures("threads_of_one")
def test_many_at_once_are_a_level_apart_at_most(
    cluster: Cluster, pipeline: DiffusionPipeline
) -> None:
    asked = {
        seed: in_background(
            lambda seed=seed: cluster.generate("a red circle", seed=seed, **REQUEST)  # type: ignore[misc]
        )
        for seed in range(12)
    }
    for seed, request in asked.items():
        [picture] = request.result(120)
        assert furthest(picture, plain(pipeline, seed)) <= 1


def test_one_that_loses_its_rank_costs_nobody_a_picture(cluster: Cluster) -> None:
    requests = [
        in_background(
            lambda seed=seed: cluster.generate("a star", seed=seed, **LONG)  # type: ignore[misc]
        )
        for seed in range(4)
    ]
    eventually(lambda: instance_of(cluster, "denoiser").get("in_flight"), "all-0 denoises")
    [rank] = instance_of(cluster, "denoiser")["ranks"]
    os.kill(rank["pid"], signal.SIGKILL)
    for request in requests:
        assert len(request.result(120)) == 1
    eventually(lambda: instance_of(cluster, "decoder")["state"] == "ready", "its rank is back")


def test_without_counts_it_chooses_and_says_so(model: Path) -> None:
    with Cluster(model, **SMALL) as cluster:
        line = cluster.log().splitlines()[0]  # the first that `up` says
        assert f"{usable_cores()} core" in line
        roles = [process["role"] for process in cluster.processes[1:]]
        if cuda_devices():
            assert roles.count("denoiser") == cuda_devices()
        else:
            assert set(roles) == {ALL_ROLES}
            assert f"{len(roles)} with all roles on cpu" in line
        assert len(cluster.generate("a heart", seed=1, **REQUEST)) == 1
