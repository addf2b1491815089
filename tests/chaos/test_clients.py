"""Clients that go, cancel, come all at once, and instances that must not come in: F13, F14, F16,
F17 and F20 of the catalogue, through the real front door to real processes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.directed_program import Directions
from tests.support.leader_process import leader
from tests.support.troupe import PROGRAM, STEPS, Book, Troupe, eventually, picture, troupe
from transfer.codec import PROTOCOL

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAMES = ("encoder-0", "denoiser-0", "decoder-0")
MAX_QUEUE = 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Troupe]:
    async with troupe(tmp_path_factory.mktemp("clients"), *NAMES, max_queue=MAX_QUEUE) as made:
        yield made


async def cancelled(them: Troupe, least: int) -> None:
    async def so_many() -> bool:
        return int((await them.cluster())["requests"]["cancelled"]) >= least

    await eventually(so_many)


@pytest.mark.parametrize("at", ["encode", "2", "decode"])
async def test_f13_a_client_that_goes_cancels_its_request(
    them: Troupe, at: str, tmp_path: Path
) -> None:
    gate, book = tmp_path / "gate", Book(tmp_path / "book")
    before = (await them.cluster())["requests"]["cancelled"]
    asking = them.asking(10, Directions(at, gate=str(gate), book=str(book.path)))
    await book.until(at)
    asking.cancel()
    await asyncio.wait({asking})
    await cancelled(them, before + 1)
    gate.touch()
    await them.comes_home()
    assert book.places[-1] == at  # nothing of it went on


async def test_f13_a_client_that_goes_while_it_waits(them: Troupe, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    directions = Directions("encode", gate=str(gate))
    asking = [them.asking(seed, directions) for seed in range(5)]

    async def some_wait() -> bool:
        return int((await them.cluster())["requests"]["queued"]) == 3  # an encoder takes two

    await eventually(some_wait)
    before = (await them.cluster())["requests"]["cancelled"]
    for each in asking:
        each.cancel()
    await asyncio.wait(asking)
    await cancelled(them, before + 5)
    gate.touch()
    await them.comes_home()


async def job(them: Troupe, directions: Directions) -> str:
    body = {"prompt": directions.prompt, "seed": 1, "num_inference_steps": STEPS}
    return str((await them.client.post("/v1/jobs", json=body)).json()["id"])


async def status(them: Troupe, id: str) -> str:
    return str((await them.client.get(f"/v1/jobs/{id}")).json()["status"])


@pytest.mark.parametrize("at", ["encode", "begin", "2", "decode"])
async def test_f14_cancelled_twice_at_every_stage(them: Troupe, at: str, tmp_path: Path) -> None:
    gate, book = tmp_path / "gate", Book(tmp_path / "book")
    id = await job(them, Directions(at, gate=str(gate), book=str(book.path)))
    await book.until(at)
    replies = await asyncio.gather(*(them.client.delete(f"/v1/jobs/{id}") for _ in range(2)))
    assert {reply.status_code for reply in replies} <= {200, 202}
    gate.touch()

    async def is_cancelled() -> bool:
        return await status(them, id) == "cancelled"

    await eventually(is_cancelled)
    await them.comes_home()
    assert await status(them, id) == "cancelled"


async def test_f14_cancelled_during_a_retry_and_when_it_is_done(
    them: Troupe, tmp_path: Path
) -> None:
    book = Book(tmp_path / "book")
    dying = await job(them, Directions("2", act="kill", book=str(book.path)))
    await book.until("2")  # and dies of it: the cancel comes while a retry is under way, or waits
    await them.client.delete(f"/v1/jobs/{dying}")

    async def has_ended() -> bool:
        return await status(them, dying) == "cancelled"

    await eventually(has_ended)
    done = await job(them, Directions())

    async def is_done() -> bool:
        return await status(them, done) == "completed"

    await eventually(is_done)
    await them.client.delete(f"/v1/jobs/{done}")
    assert await status(them, done) == "completed"
    await them.comes_home()


async def test_f17_another_protocol_version_ends_with_the_reason_in_one_line(them: Troupe) -> None:
    settings = {"program": PROGRAM, "roles": ("denoiser",), "name": "later", "ready": False}
    async with leader(them.process.control, protocol=PROTOCOL + 1, **settings) as later:
        assert await later.ended() == 1
    said = [line for line in later.stderr.splitlines() if line.startswith("triptych: ")]
    assert len(said) == 1
    told = f"it speaks protocol {PROTOCOL}, and this instance protocol {PROTOCOL + 1}"
    assert told in said[0]
    assert "install the same version on both sides" in said[0]
    assert "Traceback" not in later.stderr
    assert await them.ask(10) == picture(10)


async def test_f17_another_model_ends_with_the_reason_in_one_line(them: Troupe) -> None:
    named = {"name": "other", "model_name": "directed"}
    async with leader(  # the scripted model of other tests, under the name of this one
        them.process.control, roles=("denoiser",), **named, ready=False
    ) as other:
        assert await other.ended() == 1
    said = [line for line in other.stderr.splitlines() if line.startswith("triptych: ")]
    assert len(said) == 1
    assert "all instances of a model must have the same" in said[0]
    assert await them.ask(10) == picture(10)


async def test_f20_i7_an_overload_is_turned_away_and_leaves_no_trace(them: Troupe) -> None:
    """Open loop, five times of what it can do: more are under way than fit into the queue. Who is
    let in is served, all others hear 429 and when to come back; afterwards it is as before."""
    work = Directions(seconds=0.01).prompt
    before = Counter(await them.counters())

    async def one(seed: int) -> int:
        reply = await them.post(seed, work)
        if reply.status_code == 429:
            assert int(reply.headers["retry-after"]) >= 1
        else:
            assert reply.status_code == 200, reply.text
        return reply.status_code

    asking: list[asyncio.Task[int]] = []
    for seed in range(400):  # they come whether or not others have been answered
        asking.append(asyncio.create_task(one(seed % 200)))
        await asyncio.sleep(0.005)
    told = Counter(await asyncio.gather(*asking))
    after = Counter(await them.counters())
    assert told[429] > 0
    assert told[200] == after["requests_completed"] - before["requests_completed"]
    assert told[200] >= MAX_QUEUE  # the queue was worked off, at the least
    await them.comes_home()
    assert await them.ask(10) == picture(10)
