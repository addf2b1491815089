"""A real leader and rank that share forwards, on a scripted module: no memory, a bad value."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image as Pillow

from tests.support.leader_process import LeaderProcess, leader
from tests.support.scripted_orchestrator import ScriptedOrchestrator, work
from transfer.media import MediaClient
from transfer.messages import Abort, Aborted, Drain, Failed, Finished, Progressed

PROGRAM = "tests.support.batching_program:load"
STEPS = 40
HALVED = "out of memory with 2 requests in one forward"


@pytest.fixture
async def them() -> AsyncIterator[ScriptedOrchestrator]:
    async with ScriptedOrchestrator(heartbeat_s=0.5) as made:
        yield made


async def overlap(
    them: ScriptedOrchestrator, folder: Path, **others: dict[str, object]
) -> list[Finished | Failed]:
    """Denoises a request called "first" and the others beside it, which arrive while it stands at
    its third step. What became of them, in this order."""
    gate = folder / "gate"
    await them.ready("box")
    first = {"steps": STEPS, "gate_at": "3", "gate": str(gate)}
    await them.say("box", work("first", "monolithic", seed=10, **first))
    await them.hear(Progressed, lambda m: m.step == 1)
    for seed, (name, params) in enumerate(others.items(), start=2):
        job = work(name, "monolithic", seed=10 * seed, **{"steps": STEPS, **params})
        await them.say("box", job)
    await them.say("box", Abort(0, "unknown", 1, ""))
    await them.hear(Aborted)  # so all that was said before has arrived too
    gate.touch()
    ends = []
    for name in ("first", *others):
        ended = asyncio.ensure_future(them.hear(Finished, lambda m, n=name: m.request == n))
        failed = asyncio.ensure_future(them.hear(Failed, lambda m, n=name: m.request == n))
        done, late = await asyncio.wait([ended, failed], return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        ends.append(done.pop().result())
    return ends


async def red(ended: Finished | Failed) -> int:
    """The red of a picture's first pixel: the seed, and one for each step."""
    assert isinstance(ended, Finished)
    (media,) = ended.media
    assert media.endpoint is not None
    async with MediaClient(media.endpoint) as client:
        data = b"".join([chunk async for chunk in client.read(media)])
        await client.release(media.id)
    pixel = Pillow.open(io.BytesIO(data)).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


async def logged(them: ScriptedOrchestrator, box: LeaderProcess) -> str:
    await them.say("box", Drain())
    assert await box.ended() == 0
    return box.stderr


async def test_out_of_memory_costs_nobody_anything_and_is_learned(
    them: ScriptedOrchestrator, tmp_path: Path
) -> None:
    settings = {"roles": ("monolithic",), "name": "box", "max_batch": 4, "model": "room:1"}
    async with leader(them.endpoint, program=PROGRAM, **settings) as us:
        ends = await overlap(them, tmp_path, second={})
        assert [await red(each) for each in ends] == [10 + STEPS, 20 + STEPS]
        text = await logged(them, us)
    assert text.count(HALVED) == 1


async def test_a_bad_value_ends_its_own_request_only(
    them: ScriptedOrchestrator, tmp_path: Path
) -> None:
    settings = {"roles": ("monolithic",), "name": "box", "max_batch": 4, "model": "room:4"}
    async with leader(them.endpoint, program=PROGRAM, **settings) as us:
        ends = await overlap(them, tmp_path, bad={"poison_at": "20"}, third={"steps": 30})
        first, bad, third = ends
        assert [await red(first), await red(third)] == [10 + STEPS, 30 + 30]
        assert isinstance(bad, Failed)
        assert bad.error.message == "ValueError: scripted: a bad value"
        assert "not shared any more" not in await logged(them, us)


async def test_several_ranks_divide_what_requests_share(
    them: ScriptedOrchestrator, tmp_path: Path
) -> None:
    """Each has room for one request, and so two ranks for two."""
    settings = {"roles": ("monolithic",), "name": "box", "max_batch": 4, "model": "room:1"}
    async with leader(them.endpoint, program=PROGRAM, ranks=2, **settings) as us:
        ends = await overlap(them, tmp_path, second={})
        assert [await red(each) for each in ends] == [10 + STEPS, 20 + STEPS]
        assert HALVED not in await logged(them, us)
