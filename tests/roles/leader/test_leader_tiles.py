"""A leader with two ranks that share out what they decode, in processes of their own, with a tiny
random pipeline: the pixels are those of the plain one with tiling on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch
from diffusers import DiffusionPipeline

from roles.rank.arguments import PROGRAM
from tests.roles.leader.test_three_leaders import read
from tests.support.leader_process import LeaderProcess, leader
from tests.support.pipelines import PARAMS, build
from tests.support.scripted_orchestrator import ScriptedOrchestrator, work
from transfer.actions import Health
from transfer.messages import Answered, Ask, Finished

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
ASKED = {**PARAMS["flux"], "height": 64, "width": 48}
SOON_S = 240.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("flux", tmp_path_factory.mktemp("models") / "flux")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them() -> AsyncIterator[ScriptedOrchestrator]:
    async with ScriptedOrchestrator(heartbeat_s=0.5) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def us(them: ScriptedOrchestrator, folder: Path) -> AsyncIterator[LeaderProcess]:
    given: dict[str, Any] = {"program": PROGRAM, "model": str(folder), "roles": ["monolithic"]}
    parallel = "guidance=2,tiles"
    async with leader(them.endpoint, name="pair", ranks=2, parallel=parallel, **given) as made:
        yield made


async def picture(them: ScriptedOrchestrator, request: str, exact: bool) -> tuple[Any, np.ndarray]:
    await them.say(
        "pair", work(request, "monolithic", seed=3, exact=exact, seconds=SOON_S, **ASKED)
    )
    finished = await them.hear(Finished, lambda m: m.request == request, seconds=SOON_S)
    (media,) = finished.media
    return media.decoded_in, await read(finished)


def plain(folder: Path, tiled: bool) -> np.ndarray:
    torch.set_num_threads(1)
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if tiled:
        pipeline.vae.enable_tiling()
    made = pipeline(**ASKED, generator=torch.Generator("cpu").manual_seed(3), output_type="pil")
    return np.asarray(made.images[0])


async def test_the_pixels_are_those_of_the_tiled_pipeline(
    them: ScriptedOrchestrator, us: LeaderProcess, folder: Path
) -> None:
    in_tiles, shared = await picture(them, "r1", exact=False)
    whole, exact = await picture(them, "r2", exact=True)
    known = await asyncio.to_thread(plain, folder, True)
    alone = await asyncio.to_thread(plain, folder, False)
    assert (in_tiles, whole) == ("tiles", None)
    assert np.array_equal(shared, known)
    assert np.array_equal(exact, alone)
    assert not np.array_equal(shared, exact)


async def test_every_rank_reports(them: ScriptedOrchestrator, us: LeaderProcess) -> None:
    await them.say("pair", Ask(0, 1, Health(), 60.0))
    answered = await them.hear(Answered, lambda m: m.number == 1, seconds=SOON_S)
    assert answered.result.ok
    assert [each.rank for each in answered.result.results] == [0, 1]
    # both have computed, and have not just passed a test
    assert not any(each.value.tested for each in answered.result.results)
