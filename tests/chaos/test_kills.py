"""Processes that end, wherever they are: F1, F3 and F18 of the catalogue, with real signals.

A request waits at a gate, somebody is killed, the gate opens: so every kill comes exactly where it
is meant to, on a fast machine and on a slow one.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.support.directed_program import Directions
from tests.support.troupe import Book, Troupe, eventually, picture, troupe

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAMES = ("encoder-0", "denoiser-0", "denoiser-1", "decoder-0")
PLACES = ["encode", "begin", "1", "2", "3", "decode"]
KILLED_AT = ["encode", "begin", "3", "decode"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Troupe]:
    async with troupe(tmp_path_factory.mktemp("kills"), *NAMES) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def whole(them: Troupe) -> AsyncIterator[Troupe]:
    """With everybody there, before and after."""
    yield them
    await them.everybody_is_there()
    await them.comes_home()


def gated(tmp_path: Path, at: str) -> tuple[Directions, Path, Book]:
    gate, book = tmp_path / "gate", Book(tmp_path / "book")
    return Directions(at=at, gate=str(gate), book=str(book.path)), gate, book


@pytest.mark.parametrize("at", KILLED_AT)
async def test_f1_t6_a_role_killed_while_it_computes(
    whole: Troupe, at: str, tmp_path: Path
) -> None:
    """The request goes on elsewhere, or as soon as the role is back, from the last payload that
    still exists: what was computed before is not computed again."""
    directions, gate, book = gated(tmp_path, at)
    asking = whole.asking(10, directions)
    await book.until(at)
    victim = whole.with_rank(book.pids(at)[0])
    await whole.kill(victim.name)
    gate.touch()
    await whole.start(victim.name)
    assert await asking == picture(10)
    done = book.places
    assert done.count(at) == 2
    before = PLACES[: PLACES.index(at)]
    kept = ["encode"] if at in ("begin", "1", "2", "3") else before
    assert all(done.count(place) == 1 for place in kept), done


@pytest.mark.parametrize(("killed", "at"), [("encoder", "begin"), ("denoiser", "decode")])
async def test_f1_a_role_killed_after_its_compute(
    whole: Troupe, killed: str, at: str, tmp_path: Path
) -> None:
    """It has delivered, so nobody needs it any more: the request does not even notice."""
    directions, gate, book = gated(tmp_path, at)
    asking = whole.asking(20, directions)
    await book.until(at)
    its_work = {"encoder": "encode", "denoiser": "3"}[killed]
    victim = whole.with_rank(book.pids(its_work)[0])
    await whole.kill(victim.name)
    gate.touch()
    assert await asking == picture(20)
    assert book.places == PLACES
    await whole.start(victim.name)


async def test_f1_both_who_have_it_are_killed(whole: Troupe, tmp_path: Path) -> None:
    """With the kept payload gone too, it begins again with the first role."""
    directions, gate, book = gated(tmp_path, "2")
    asking = whole.asking(30, directions)
    await book.until("2")
    denoiser = whole.with_rank(book.pids("2")[0])
    await whole.kill("encoder-0")
    await whole.kill(denoiser.name)
    gate.touch()
    await asyncio.gather(whole.start("encoder-0"), whole.start(denoiser.name))
    assert await asking == picture(30)
    assert [book.places.count(place) for place in PLACES] == [2, 2, 2, 2, 1, 1]


@pytest.mark.parametrize("act", ["segfault", "exit", "kill"])
async def test_f3_a_rank_that_ends_by_itself(whole: Troupe, act: str, tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    directions = Directions("2", act=act, once=str(tmp_path / "once"), book=str(book.path))
    assert await whole.ask(40, directions.prompt) == picture(40)
    assert book.places.count("2") == 2
    assert book.places.count("encode") == 1
    ended, survivor = book.pids("2")
    assert not psutil.pid_exists(ended)
    assert survivor in whole.with_rank(survivor).ranks


async def test_i8_f18_a_poison_request_costs_three_workers_and_is_told_why(
    whole: Troupe, tmp_path: Path
) -> None:
    book = Book(tmp_path / "book")
    slow = Directions(seconds=0.3).prompt  # so that it is beside the poison, whoever has that
    besides = [asyncio.create_task(whole.ask(50 + i, slow)) for i in range(2)]
    poison = Directions("2", act="segfault", book=str(book.path))
    reply = await whole.post(55, poison.prompt)
    assert reply.status_code == 500
    error = reply.json()["error"]
    assert error["code"] == "rank_died"
    assert "died of SIGSEGV" in error["message"]
    assert "after 3 attempts" in error["message"]
    assert book.places.count("2") == 3
    assert await asyncio.gather(*besides) == [picture(50), picture(51)]


async def test_f18_a_request_that_raises_is_tried_elsewhere_and_costs_no_worker(
    whole: Troupe, tmp_path: Path
) -> None:
    book = Book(tmp_path / "book")
    ranks = {pid for name in NAMES for pid in whole.members[name].ranks}
    reply = await whole.post(56, Directions("1", act="raise", book=str(book.path)).prompt)
    assert reply.status_code == 500
    assert "as directed" in reply.json()["error"]["message"]
    assert book.places.count("1") == 3
    assert {pid for name in NAMES for pid in whole.members[name].ranks} == ranks


@pytest.mark.parametrize("part", ["leader", "all"])
async def test_f3_i2_a_zombie_that_wakes_is_fenced(
    whole: Troupe, part: str, tmp_path: Path
) -> None:
    """Stopped in the middle of its compute until it counts as dead; woken when another one has
    taken its request over. It finishes what it had, and nobody believes it."""
    directions, gate, book = gated(tmp_path, "2")
    failed = (await whole.cluster())["requests"]["failed"]
    asking = whole.asking(60, directions)
    await book.until("2")
    zombie = whole.with_rank(book.pids("2")[0])
    before = await whole.seen(zombie.name)
    zombie.signal(signal.SIGSTOP, ranks=part == "all")
    await book.until("2", times=2)
    zombie.signal(signal.SIGCONT, ranks=part == "all")
    gate.touch()
    assert await asking == picture(60)

    async def is_back() -> bool:
        now = await whole.seen(zombie.name)
        return bool(now) and now["state"] == "ready" and now["epoch"] > before["epoch"]

    await eventually(is_back)
    assert (await whole.cluster())["requests"]["failed"] == failed
