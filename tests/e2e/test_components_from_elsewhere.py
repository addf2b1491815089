"""`--component`, from Python's `Cluster` to the pixels of a client."""

from pathlib import Path

import httpx
import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline

from tests.support.local_cluster import whole_cluster
from tests.support.model_parts import vae

PROMPT = "a component from elsewhere"


def test_a_cluster_with_another_vae(model: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    vae(scaling_factor=0.5).save_pretrained(tmp_path / "other")
    with whole_cluster(model, components={"vae": tmp_path / "other"}) as cluster:
        pictures = cluster.generate(PROMPT, seed=1, steps=2, size="32x32", exact=True)
        [page] = httpx.get(f"{cluster.url}/v1/models").json()["data"]
    [replaced] = page["replaced"]
    assert (replaced["component"], replaced["source"]) == ("vae", "other")
    other = AutoencoderKL.from_pretrained(tmp_path / "other")
    plain = DiffusionPipeline.from_pretrained(model, vae=other)
    plain.set_progress_bar_config(disable=True)
    size = {"width": 32, "height": 32, "num_inference_steps": 2}
    generator = torch.Generator("cpu").manual_seed(1)
    [wanted] = plain(PROMPT, **size, generator=generator).images
    assert np.array_equal(pictures[0], wanted)
