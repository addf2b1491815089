"""What is started again while it is needed: the orchestrator (F4, T7), and every role (F15, T15).

With real leaders; `tests/orchestrator/jobs/test_jobs_survive.py` does the same with scripted ones,
at more states.
"""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.directed_program import Directions
from tests.support.troupe import DEADLINE_S, STEPS, Book, Troupe, eventually, picture, red, troupe

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAMES = ("encoder-0", "denoiser-0", "decoder-0")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Troupe]:
    async with troupe(tmp_path_factory.mktemp("restarts"), *NAMES) as made:
        yield made


async def order(them: Troupe, key: str, seed: int, prompt: str = "a star") -> str:
    """The id of the job of this key."""
    body = {"prompt": prompt, "seed": seed, "num_inference_steps": STEPS}
    headers = {"Idempotency-Key": key}
    reply = await them.client.post("/v1/jobs", json=body, headers=headers)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


async def insist(them: Troupe, key: str, seed: int, prompt: str = "a star") -> str:
    """As a client does that must have its job: it asks again with its key."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await order(them, key, seed, prompt)
            except (httpx.TransportError, AssertionError):
                await asyncio.sleep(0.02)


async def over(them: Troupe, id: str) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        try:
            told = dict((await them.client.get(f"/v1/jobs/{id}")).json())
        except (httpx.TransportError, ValueError):
            return None  # the orchestrator is not there at this moment
        return told if told.get("status") in ("completed", "failed", "cancelled") else None

    told = await eventually(ended)
    assert told is not None
    return told


async def content(them: Troupe, id: str) -> int:
    reply = await them.client.get(f"/v1/jobs/{id}/content")
    assert reply.status_code == 200, reply.text
    return red(reply.content)


@pytest.mark.parametrize("at", ["encode", "2", "decode"])
async def test_f4_t7_an_orchestrator_killed_in_the_middle_of_a_stage(
    them: Troupe, at: str, tmp_path: Path
) -> None:
    """The roles register again by themselves and drop what they did for the last life; the job goes
    on, and has one end, with the right picture."""
    gate, book = tmp_path / "gate", Book(tmp_path / "book")
    prompt = Directions(at, gate=str(gate), book=str(book.path)).prompt
    id = await order(them, f"killed at {at}", 10, prompt)
    await book.until(at)
    await them.process.kill()
    gate.touch()
    await them.process.start()
    assert (await over(them, id))["status"] == "completed"
    assert await content(them, id) == picture(10)
    assert await order(them, f"killed at {at}", 10, prompt) == id
    await them.comes_home()


async def test_f4_f24_killed_under_load_no_job_is_lost_and_none_comes_twice(them: Troupe) -> None:
    """Two clients for each key insist on their jobs while the orchestrator is killed twice."""
    seeds = range(30)
    prompt = Directions(seconds=0.005).prompt
    before = {job["id"] for job in await listed(them)}
    asking = [
        asyncio.create_task(insist(them, f"load {seed}", seed, prompt))
        for seed, _ in itertools.product(seeds, range(2))
    ]
    for least in (8, 20):

        async def so_many(least: int = least) -> bool:
            try:
                done = [job for job in await listed(them) if job["status"] == "completed"]
            except (httpx.TransportError, ValueError, KeyError):
                return False
            return len([job for job in done if job["id"] not in before]) >= least

        await eventually(so_many)
        await them.process.restart()
    ids = await asyncio.gather(*asking)
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == len(seeds)
    for seed, id in zip(seeds, ids[::2], strict=True):
        assert (await over(them, id))["status"] == "completed"
        assert await content(them, id) == picture(seed)
    assert {job["id"] for job in await listed(them)} - before == set(ids)
    await them.comes_home()


async def listed(them: Troupe) -> list[dict[str, Any]]:
    reply = await them.client.get("/v1/jobs", params={"limit": 100})
    return list(reply.json()["data"])


async def test_f24_the_same_key_at_the_same_time_is_one_job(them: Troupe) -> None:
    ids = await asyncio.gather(*(order(them, "at once", 5) for _ in range(20)))
    assert len(set(ids)) == 1
    assert (await over(them, ids[0]))["attempts"] == 1
    assert await content(them, ids[0]) == picture(5)


async def test_f15_t15_a_rolling_restart_under_load_fails_nothing(them: Troupe) -> None:
    """For each instance: another one joins, the old one gets SIGTERM, drains, and exits with 0."""
    stop = asyncio.Event()
    answered: list[int] = []

    async def client(first: int) -> None:
        for seed in itertools.count(first, 4):
            if stop.is_set():
                return
            answered.append(await them.ask(seed % 200, Directions(seconds=0.002).prompt))
            assert answered[-1] == picture(seed % 200)

    clients = [asyncio.create_task(client(i)) for i in range(4)]
    for old in NAMES:
        new = old.replace("-0", "-1")
        await them.join(new)
        before = len(answered)
        member = them.members[old]
        assert member.leader is not None
        member.signal(signal.SIGTERM)
        assert await member.leader.ended() == 0

        async def goes_on(before: int = before) -> bool:
            return len(answered) >= before + 8 or any(each.done() for each in clients)

        await eventually(goes_on)
    stop.set()
    await asyncio.gather(*clients)  # raises what any of them met
    await them.comes_home()
