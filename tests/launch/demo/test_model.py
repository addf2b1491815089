"""The shipped model: small, loads as a plain diffusers pipeline, and draws what is asked."""

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from launch.demo.evaluate import MODEL, generate, grid, score, share_right, table
from launch.demo.scenes import parse

PROMPTS = [
    "a big blue square",
    "a red circle above a blue square",
    "a green star left of a purple circle on a black background",
]


@pytest.fixture(scope="module")
def pipeline() -> DiffusionPipeline:
    loaded = DiffusionPipeline.from_pretrained(MODEL)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_the_folder_is_small_and_complete() -> None:
    files = [file for file in Path(MODEL).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 15e6
    assert {"model_index.json", "README.md"} <= {file.name for file in files}


def test_it_draws_what_is_asked(pipeline: DiffusionPipeline) -> None:
    judged = score(pipeline, [parse(prompt) for prompt in PROMPTS], 0, {"num_inference_steps": 20})
    assert [one.faults for one in judged] == [()] * len(PROMPTS)
    assert [one.picture.size for one in judged] == [(128, 128)] * len(PROMPTS)


def test_free_wording_is_understood(pipeline: DiffusionPipeline) -> None:
    free = ["Please draw a LARGE blue square.", "red circle, over the blue square"]
    settings = {"num_inference_steps": 4}
    ours = generate(pipeline, free, 0, settings)
    assert [p.tobytes() for p in ours] == [
        p.tobytes() for p in generate(pipeline, PROMPTS[:2], 0, settings)
    ]


def test_it_loads_in_bfloat16() -> None:
    small = DiffusionPipeline.from_pretrained(MODEL, dtype=torch.bfloat16)
    small.set_progress_bar_config(disable=True)
    assert small("a red circle", num_inference_steps=2).images[0].size == (128, 128)


def test_the_table_counts(pipeline: DiffusionPipeline) -> None:
    scenes = [parse("a red star"), parse("two red stars")]
    judged = score(pipeline, scenes, 0, {"num_inference_steps": 1})
    share = share_right(judged)
    assert table(judged).splitlines()[-1].split() == ["all", "2", f"{share:.1%}"]
    assert grid([one.picture for one in judged], columns=2).size == (268, 136)
    assert share_right([]) == 1.0
