"""Requests that go on in the middle of their denoising: at another instance, or where they were."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.directed_program import Directions
from tests.support.troupe import Book, Troupe, eventually, picture, troupe

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAMES = ("encoder-0", "denoiser-0", "denoiser-1", "decoder-0")
# a checkpoint at every step, and one step at a time
SETTINGS = {"checkpoint_s": 1e-9, "slice_s": 0.0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Troupe]:
    async with troupe(tmp_path_factory.mktemp("portable"), *NAMES, settings=SETTINGS) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def whole(them: Troupe) -> AsyncIterator[Troupe]:
    """With everybody there, before and after."""
    yield them
    await them.everybody_is_there()
    await them.comes_home()


@pytest.mark.parametrize("how", ["kill", "segfault", "exit"])
async def test_f1_i6_a_rank_that_dies_costs_the_steps_since_the_checkpoint(
    whole: Troupe, how: str, tmp_path: Path
) -> None:
    book, once = Book(tmp_path / "book"), tmp_path / "once"
    directions = Directions(at="6", act=how, once=str(once), book=str(book.path))
    asked = await whole.ask(10, directions.prompt, num_inference_steps=8)
    assert asked == picture(10, steps=8)
    places = book.places
    assert (places.count("encode"), places.count("1"), places.count("2")) == (1, 1, 1)
    assert places.count("6") == 2
    assert (await whole.counters())["attempts_restored"] >= 1
    await eventually(lambda: whole.is_ready("denoiser-0"))
    await eventually(lambda: whole.is_ready("denoiser-1"))


async def test_f1_i6_a_denoiser_that_dies_whole_costs_the_steps_since_the_copy(
    whole: Troupe, tmp_path: Path
) -> None:
    """Leader and ranks, with the checkpoints that they keep, after four fifths of the steps."""
    book, gate = Book(tmp_path / "book"), tmp_path / "gate"
    before = await whole.counters()
    directions = Directions(at="17", gate=str(gate), book=str(book.path))
    asking = whole.asking(20, directions, num_inference_steps=20)
    await book.until("17")
    victim = whole.with_rank(book.pids("17")[0])
    await eventually(lambda: _copied(whole, before))
    victim.signal(signal.SIGKILL, ranks=True)
    await whole.kill(victim.name)
    gate.touch()
    assert await asking == picture(20, steps=20)
    steps = [place for place in book.places if place.isdigit()]
    assert (book.places.count("encode"), steps.count("1")) == (1, 1)
    assert len(steps) - 20 < 16  # done twice: fewer than were done before it was killed
    assert len({pid for place, pid, _ in book.lines if place.isdigit()}) == 2
    assert (await _since(whole, before))["attempts_from_copies"] == 1
    await whole.start(victim.name)


async def _copied(them: Troupe, before: dict[str, int]) -> bool:
    """A copy has arrived, and no other one is on its way."""
    since = await _since(them, before)
    return since["copies_made"] == since["copies_begun"] > 0


async def _since(them: Troupe, before: dict[str, int]) -> Counter[str]:
    return Counter(await them.counters()) - Counter(before)


async def test_f15_a_draining_denoiser_hands_its_work_on(whole: Troupe, tmp_path: Path) -> None:
    """It is gone long before its request would have been done there."""
    book = Book(tmp_path / "book")
    directions = Directions(book=str(book.path), seconds=0.1)
    asking = whole.asking(30, directions, num_inference_steps=100)
    await book.until("3")
    victim = whole.with_rank(book.pids("3")[0])
    victim.signal(signal.SIGTERM)
    assert victim.leader is not None
    async with asyncio.timeout(60):
        assert await victim.leader.process.wait() == 0
    assert not asking.done()
    assert await asking == picture(30, steps=100)
    steps = [place for place in book.places if place.isdigit()]
    assert (book.places.count("encode"), steps.count("1")) == (1, 1)
    assert len(steps) < 150  # nothing but the steps since the checkpoint was done twice
    assert len({pid for place, pid, _ in book.lines if place.isdigit()}) == 2
    await victim.stack.aclose()
    await whole.start(victim.name)
