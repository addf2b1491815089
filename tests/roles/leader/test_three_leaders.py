"""Encoder, denoiser and decoder as three instances, on a real, tiny pipeline."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import torch
from PIL import Image as Pillow

from roles.rank.arguments import PROGRAM
from tests.support.leader_process import leader
from tests.support.loras import OF_TEXT, TARGETS, build_lora_of, by_diffusers
from tests.support.pipelines import PARAMS, build
from tests.support.scripted_orchestrator import ScriptedOrchestrator, work
from tests.support.splitting import plain
from transfer.actions import LoadLora, LoraLoaded
from transfer.media import MediaClient
from transfer.messages import (
    Abort,
    Aborted,
    Answered,
    Ask,
    Delivered,
    Failed,
    Finished,
    Lora,
    Progressed,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROLES = ("encoder", "denoiser", "decoder")
NAME = "sd15_ancestral"  # its sampler draws from the generator at every step


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(NAME, tmp_path_factory.mktemp("models") / NAME)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them(folder: Path) -> AsyncIterator[ScriptedOrchestrator]:
    """The orchestrator of three instances that are called as their roles are. It beats slowly: the
    plain pipeline runs in this process, and holds its loop up."""
    async with ScriptedOrchestrator(heartbeat_s=5.0) as made, AsyncExitStack() as stack:
        starts = [
            leader(made.endpoint, program=PROGRAM, model=str(folder), roles=[role], name=role)
            for role in ROLES
        ]
        await asyncio.gather(*map(stack.enter_async_context, starts))
        yield made


async def picture(
    them: ScriptedOrchestrator, seed: int, exact: bool = True, *loras: Lora
) -> np.ndarray:
    """One request through the three instances."""
    request, slot = f"r{seed}", seed % 4
    delivery = None
    inputs = {**PARAMS[NAME], "seed": seed, "exact": exact, "loras": loras}
    for role, receiver in (("encoder", "denoiser"), ("denoiser", "decoder")):
        grant = them.grant(request, receiver, [slot])
        job = work(request, role, delivery=delivery, grant=grant, **inputs)
        await them.say(role, job)
        delivered = await them.hear(Delivered, lambda m: m.request == request)
        delivery = them.deliver(grant, delivered)
    await them.say("decoder", work(request, "decoder", delivery=delivery, **inputs))
    finished = await them.hear(Finished, lambda m: m.request == request)
    return await read(finished)


async def read(finished: Finished) -> np.ndarray:
    (media,) = finished.media
    async with MediaClient(media.endpoint or "") as client:
        data = b"".join([chunk async for chunk in client.read(media)])
        await client.release(media.id)
    return np.asarray(Pillow.open(io.BytesIO(data)))


async def test_the_pictures_are_the_plain_pipeline_s(
    them: ScriptedOrchestrator, folder: Path
) -> None:
    torch.set_num_threads(1)
    made = await asyncio.gather(picture(them, 1), picture(them, 2))  # interleaved
    for seed, pixels in enumerate(made, start=1):
        (expected,) = plain(folder, PARAMS[NAME], seed)
        assert np.array_equal(pixels, expected)


async def test_pictures_that_may_share_forwards_are_as_good_as_the_same(
    them: ScriptedOrchestrator, folder: Path
) -> None:
    torch.set_num_threads(1)
    made = await asyncio.gather(*(picture(them, seed, exact=False) for seed in (5, 6)))
    for seed, pixels in enumerate(made, start=5):
        (expected,) = plain(folder, PARAMS[NAME], seed)
        assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= 1


async def test_adapters_that_change_the_text_encoder_too(
    them: ScriptedOrchestrator, folder: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    changed = {"unet": TARGETS, "text_encoder": OF_TEXT}
    path, worn = build_lora_of(folder, tmp_path, 1, changed), Lora("a", 0.8)
    assert [them.registered[x].adaptable for x in ROLES] == [["text_encoder"], ["unet"], []]
    for number, (role, part) in enumerate((("encoder", "text_encoder"), ("denoiser", "unet"))):
        await them.say(role, Ask(0, number, LoadLora("a", str(path)), 60.0))
        told = await them.hear(Answered, lambda m, n=number: m.number == n)
        assert isinstance(told.result.first.value, LoraLoaded)
        assert told.result.first.value.lora.parts == [part]
    made = await asyncio.gather(picture(them, 7, True, worn), picture(them, 8))
    for seed, pixels, pairs in zip((7, 8), made, ([(path, worn)], []), strict=True):
        (expected,) = by_diffusers(folder, PARAMS[NAME], seed, *pairs)
        assert np.array_equal(pixels, expected)


async def test_what_the_pipeline_refuses_names_its_field(them: ScriptedOrchestrator) -> None:
    params = {**PARAMS[NAME], "height": 33}
    await them.say("encoder", work("odd", "encoder", **params))
    told = await them.hear(Failed)
    assert told.error.kind == "invalid_request"
    assert "height must be a multiple of 8" in told.error.message
    assert told.error.traceback is None


async def test_an_abort_in_the_middle_leaves_the_others_as_they_are(
    them: ScriptedOrchestrator, folder: Path
) -> None:
    grant = them.grant("long", "denoiser", [0])
    params = {**PARAMS[NAME], "num_inference_steps": 500}
    await them.say("encoder", work("long", "encoder", grant=grant, **params))
    delivery = them.deliver(grant, await them.hear(Delivered))
    await them.say("denoiser", work("long", "denoiser", delivery=delivery, **params))
    await them.hear(Progressed, lambda m: m.request == "long")
    beside = asyncio.create_task(picture(them, 3))
    await them.hear(Progressed, lambda m: m.request == "r3")
    await them.say("denoiser", Abort(0, "long", 1, ""))
    await them.hear(Aborted)
    (expected,) = plain(folder, PARAMS[NAME], 3)
    assert np.array_equal(await beside, expected)
