"""Previews among real processes: whatever becomes of one, its request does not notice."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.directed_program import Directions
from tests.support.troupe import Book, Troupe, eventually, picture, red, troupe

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAMES = ("encoder-0", "denoiser-0", "decoder-0")
STEPS = 24
STEP_S = 0.05


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Troupe]:
    """Ranks that tell of each step, so that there is time to look."""
    slices = {"slice_s": 0.0}
    async with troupe(tmp_path_factory.mktemp("previews"), *NAMES, settings=slices) as made:
        yield made


@contextlib.asynccontextmanager
async def watching(
    them: Troupe, seed: int, directions: Directions
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The events of a request that shows three previews."""
    body = {"prompt": directions.prompt, "seed": seed, "num_inference_steps": STEPS}
    body |= {"stream": True, "partial_images": 3}
    async with them.client.stream("POST", "/v1/images/generations", json=body) as reply:
        assert reply.status_code == 200
        yield _events(reply.aiter_lines())


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    async for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def shown(event: dict[str, Any]) -> int:
    return red(base64.b64decode(event["b64_json"]))


async def dropped(them: Troupe) -> int:
    return (await them.counters()).get("previews_dropped", 0)


async def test_previews_are_pictures_of_the_request_half_done(them: Troupe) -> None:
    async with watching(them, 10, Directions(seconds=STEP_S)) as events:
        told = [event async for event in events]
    *partial, last = told
    assert partial
    assert [event["partial_image_index"] for event in partial] == list(range(len(partial)))
    reds = [shown(event) for event in partial]
    assert sorted(set(reds)) == reds
    assert picture(10, 1) <= reds[0] <= reds[-1] < picture(10, STEPS)
    assert shown(last) == picture(10, STEPS)
    await them.comes_home()


async def test_a_decoder_killed_while_it_decodes_a_preview(them: Troupe, tmp_path: Path) -> None:
    """F1, I8: the preview is gone, and no other follows, since it might do so again. The request
    is computed once, as if nobody had looked."""
    book, gate, once = Book(tmp_path / "book"), tmp_path / "gate", tmp_path / "once"
    dying = Directions(at="decode", act="kill", once=str(once))
    waiting = Directions(
        at=str(STEPS), gate=str(gate), book=str(book.path), seconds=STEP_S, then=dying
    )
    async with watching(them, 20, waiting) as events:
        await book.until("decode")
        before = await eventually(lambda: dropped(them))
        await eventually(lambda: them.is_ready("decoder-0"))
        gate.touch()
        told = [event async for event in events]
    assert before == 1
    assert [event["type"] for event in told] == ["image_generation.completed"]
    assert shown(told[0]) == picture(20, STEPS)
    assert book.places.count("encode") == 1
    assert all(book.places.count(str(step)) == 1 for step in range(1, STEPS + 1))
    assert book.places.count("decode") == 2
    await them.comes_home()


@pytest.mark.parametrize("at", ["preview", "decode"])
async def test_i10_a_client_that_goes_during_a_preview(
    them: Troupe, at: str, tmp_path: Path
) -> None:
    """Everything of it ends: the step, the preview at the denoiser, the preview at the decoder."""
    book, gate = Book(tmp_path / "book"), tmp_path / "gate"
    before = (await them.cluster())["requests"]["cancelled"]
    directions = Directions(at=at, gate=str(gate), book=str(book.path), seconds=STEP_S)
    async with watching(them, 30, directions):
        await book.until(at)

    async def is_cancelled() -> bool:
        return int((await them.cluster())["requests"]["cancelled"]) == before + 1

    await eventually(is_cancelled)
    gate.touch()
    await them.comes_home()
    taken = [place for place in book.places if place.isdigit()]
    assert len(taken) < STEPS
    quiet = len(book.places)
    async with watching(them, 40, Directions(seconds=0.001)) as events:
        told = [event async for event in events]
    assert shown(told[-1]) == picture(40, STEPS)
    assert len(book.places) == quiet  # nothing of the other one went on


async def test_many_at_once_come_home(them: Troupe) -> None:
    async def one(seed: int) -> int:
        async with watching(them, seed, Directions(seconds=0.002)) as events:
            return shown([event async for event in events][-1])

    seeds = list(range(50, 62))
    assert await asyncio.gather(*map(one, seeds)) == [picture(seed, STEPS) for seed in seeds]
    await them.comes_home()
