"""Instances that cannot be heard, or cannot hear, for a while: F6 and F7 of the catalogue."""

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.directed_program import Directions
from tests.support.proxy import BOTH, Direction, Proxy, proxy
from tests.support.troupe import Book, Troupe, eventually, picture, troupe

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Troupe, Proxy]]:
    """denoiser-1 is behind the proxy, denoiser-0 is not. Requests go to them in turns, however slow
    one was in earlier tests, and survive more than the three faults of one test.
    """
    names, folder = ("encoder-0", "denoiser-0", "decoder-0"), tmp_path_factory.mktemp("partitions")
    options = {"bind": "tcp://0.0.0.0:0", "policy": "round_robin", "max_attempts": 5}
    async with (
        troupe(folder, *names, **options) as made,
        proxy(made.process.control) as wire,
    ):
        await made.join("denoiser-1", wire.endpoint)
        yield made, wire


async def both_are_at_it(them: Troupe, tmp_path: Path) -> tuple[list["asyncio.Task[int]"], Path]:
    """Two requests wait at a gate, one in each denoiser."""
    gate, book = tmp_path / "gate", Book(tmp_path / "book")
    directions = Directions("2", gate=str(gate), book=str(book.path))
    asking = [them.asking(seed, directions) for seed in (10, 11)]
    await book.until("2", times=2)
    assert len(set(book.pids("2"))) == 2
    return asking, gate


async def is_lost(them: Troupe, name: str) -> None:
    async def lost() -> bool:
        return (await them.seen(name)).get("state") in (None, "failed")

    await eventually(lost)


async def is_back(them: Troupe, name: str) -> None:
    async def back() -> bool:
        return await them.is_ready(name)

    await eventually(back)


@pytest.mark.parametrize("cut", [BOTH, ("up",), ("down",)], ids=["full", "unheard", "deaf"])
async def test_f6_i2_a_partition_costs_no_request_and_makes_no_second_result(
    them: tuple[Troupe, Proxy], cut: tuple[Direction, ...], tmp_path: Path
) -> None:
    made, wire = them
    before = await made.seen("denoiser-1")
    asking, gate = await both_are_at_it(made, tmp_path)
    wire.hold(*cut)
    if cut != ("down",):
        await is_lost(made, "denoiser-1")
    else:  # it goes on beating, but hears nothing: it is the one who gives the other up

        async def registers_again() -> bool:
            return (await made.seen("denoiser-1")).get("state") != "ready"

        await eventually(registers_again)
    gate.touch()
    assert await asyncio.gather(*asking) == [picture(10), picture(11)]
    wire.release()
    await is_back(made, "denoiser-1")
    assert (await made.seen("denoiser-1"))["epoch"] > before["epoch"]
    await made.comes_home()


async def test_f6_a_flapping_connection(them: tuple[Troupe, Proxy]) -> None:
    """It breaks again and again under load; no request is lost, and everything comes home."""
    made, wire = them
    answered = 0

    async def ask(seed: int) -> None:
        nonlocal answered
        assert await made.ask(seed, Directions(seconds=0.005).prompt) == picture(seed)
        answered += 1

    asking = [asyncio.create_task(ask(seed)) for seed in range(60)]
    for part in (10, 25, 40):

        async def so_many(least: int = part) -> bool:
            return answered >= least

        await eventually(so_many)
        wire.reset()
    await asyncio.gather(*asking)
    await is_back(made, "denoiser-1")
    await made.comes_home()


async def test_f7_a_slow_instance_keeps_nobody_else_waiting(
    them: tuple[Troupe, Proxy], tmp_path: Path
) -> None:
    """One denoiser does not get on at all, and denoiser-1 has all its news late; whoever is not at
    the slow one passes it by."""
    made, wire = them
    gate, book = tmp_path / "gate", Book(tmp_path / "book")
    wire.delay_s = 0.05
    slow = made.asking(10, Directions("2", gate=str(gate), book=str(book.path)))
    await book.until("2")
    stuck = made.with_rank(book.pids("2")[0]).name
    assert (await made.client.post(f"/v1/cluster/instances/{stuck}/drain")).status_code < 300
    for seed in range(10):
        assert await made.ask(seed) == picture(seed)
    assert not slow.done()
    gate.touch()
    assert await slow == picture(10)
    wire.delay_s = 0.0
    await made.restart(stuck)
    await made.comes_home()


# ---------------------------------------------------------------- network namespaces


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespace() -> Iterator[tuple[str, str]]:
    """A network namespace and the address under which it reaches this one."""
    name = f"tript{secrets.token_hex(3)}"
    host, inside, net = f"h{name[5:]}", f"n{name[5:]}", secrets.randbelow(250) + 1
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        pytest.skip(f"no network namespaces here: {said.decode().strip()}")
    try:
        _ip("link", "add", host, "type", "veth", "peer", "name", inside, "netns", name)
        _ip("addr", "add", f"10.213.{net}.1/24", "dev", host)
        _ip("link", "set", host, "up")
        _ip("-n", name, "addr", "add", f"10.213.{net}.2/24", "dev", inside)
        _ip("-n", name, "link", "set", inside, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield name, f"10.213.{net}.1"
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no virtual links here: {error.stderr.decode().strip()}")
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


async def test_f6_a_link_that_goes_down_and_up_again(
    them: tuple[Troupe, Proxy], namespace: tuple[str, str], tmp_path: Path
) -> None:
    """The same as above with the kernel's own network: a denoiser in a namespace of its own."""
    made, _ = them
    name, address = namespace
    port = made.process.control.rpartition(":")[2]
    enter = ("ip", "netns", "exec", name)
    await made.join("denoiser-2", f"tcp://{address}:{port}", within=enter)
    gate, book = tmp_path / "gate", Book(tmp_path / "book")
    directions = Directions("2", gate=str(gate), book=str(book.path))
    asking = [made.asking(seed, directions) for seed in range(3)]
    await book.until("2", times=3)
    _ip("-n", name, "link", "set", f"n{name[5:]}", "down")
    await is_lost(made, "denoiser-2")
    gate.touch()
    assert await asyncio.gather(*asking) == [picture(seed) for seed in range(3)]
    _ip("-n", name, "link", "set", f"n{name[5:]}", "up")
    await is_back(made, "denoiser-2")
    await made.comes_home()
    await made.kill("denoiser-2")
