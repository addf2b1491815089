"""Whatever comes to the control port: the loops live, everybody else is served, memory is flat.

A real orchestrator, strangers in a process of their own, and between them honest roles and clients
here. Durations are printed beside those of an idle orchestrator, and not asserted: `pytest -s`, or
`python -m benchmarks.hostile_bytes`, which measures.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.besieged import Besieged, besieged
from tests.support.strangers import attack

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROWTH_BYTES = 32 << 20
DEADLINE_S = 60.0
COUNTS = {
    "noise": 10_000,
    "hellos": 3_000,
    "half_open": 1_000,
    "large_claims": 500,
    "insiders": 5_000,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target() -> AsyncIterator[Besieged]:
    async with besieged() as made:
        await made.idle(50)
        yield made


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await holds():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", COUNTS)
async def test_everybody_is_served_while_strangers_come(
    target: Besieged, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = tmp_path / "bomb"
    # what it has by the first of these strangers is what it needs for them; then no more
    await attack(name, target.control, COUNTS[name] // 2, bomb=bomb)
    idle, before = await target.idle(200), target.rss
    counted = await target.refused(), sum((await target.counters()).values())
    storm = asyncio.ensure_future(attack(name, target.control, COUNTS[name], seed=2, bomb=bomb))
    beside = await target.ask_until(storm)
    made = await storm
    with capsys.disabled():
        print(f"\n{name}: {made} connections; idle: {idle}; beside them: {beside}")
    assert target.alive
    assert not bomb.exists()
    if name == "insiders":
        assert sum((await target.counters()).values()) - counted[1] >= COUNTS[name] // 2
    else:
        assert made == COUNTS[name]

        async def all_counted() -> bool:
            return await target.refused() - counted[0] >= made

        await eventually(all_counted)
    after = target.rss
    with capsys.disabled():
        print(f"  memory: {before >> 20} MiB before, {(after - before) / (1 << 20):+.1f} MiB after")
    assert after - before < GROWTH_BYTES


async def test_what_they_opened_is_closed(target: Besieged, tmp_path: Path) -> None:
    before = target.descriptors
    await attack("half_open", target.control, 300, bomb=tmp_path / "bomb")

    async def closed() -> bool:
        return target.descriptors <= before

    await eventually(closed)


async def test_it_survives_that_there_are_no_descriptors_left(tmp_path: Path) -> None:
    """Half-open connections take the last one. Who is connected is served all the time; who comes
    new waits until handshakes have run out, and is served then."""
    async with besieged() as made:
        await made.idle(10)
        made.limit_descriptors(40)
        most = 0
        storm = asyncio.ensure_future(
            attack("half_open", made.control, 120, bomb=tmp_path / "bomb")
        )
        while not storm.done():
            await made.ask()
            most = max(most, made.descriptors)
        assert await storm == 120
        assert most >= made.descriptor_limit - 2  # there were really none left
        assert made.alive
        async with made.another_client() as client:
            assert (await client.get("/ready")).status_code == 200
