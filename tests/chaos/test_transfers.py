"""Payloads on their way: F2 and F10 of the catalogue, and T1.

Writes into another process's memory that stop at a byte, come too late, or are not what was sent.
"""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.support.directed_program import Directions
from tests.support.faulty_writes import Fault
from tests.support.troupe import Book, Troupe, eventually, picture, troupe

pytestmark = pytest.mark.asyncio(loop_scope="module")
SENDERS = {"encoder": "encode", "denoiser": "3"}
FLOATS = 20_000  # 80 kB: two slots
AT = 30_000  # the byte at which it happens


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def them(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Troupe]:
    """One of each role, whose writes can be told to fail; see `order`."""
    folder = tmp_path_factory.mktemp("transfers")
    async with troupe(folder) as made:
        for role in ("encoder", "denoiser", "decoder"):
            await made.join(f"{role}-0", faults=folder / f"{role}.fault")
        yield made


def order(them: Troupe, role: str, fault: Fault) -> Path:
    path = Path(them.members[f"{role}-0"].settings["faults"])
    fault.order(path)
    return path


def large(book: Book, **directions: str) -> Directions:
    return Directions(size=FLOATS, book=str(book.path), **directions)


async def taken(path: Path) -> None:
    """The write has got to its byte."""

    async def gone() -> bool:
        return not path.exists()

    await eventually(gone)


@pytest.mark.parametrize("role", SENDERS)
@pytest.mark.parametrize("act", ["flip", "fail"])
async def test_f10_t1_a_payload_that_is_not_what_was_sent_is_never_computed_on(
    them: Troupe, role: str, act: str, tmp_path: Path
) -> None:
    """A flipped bit, or a write that ended half-way: pushed again, from what the sender keeps."""
    book = Book(tmp_path / "book")
    order(them, role, Fault(act, AT))
    assert await them.ask(10, large(book).prompt) == picture(10)
    assert book.places.count(SENDERS[role]) == 1
    await them.comes_home()


@pytest.mark.parametrize("role", SENDERS)
async def test_f2_a_sender_killed_in_the_middle_of_its_write(
    them: Troupe, role: str, tmp_path: Path
) -> None:
    book = Book(tmp_path / "book")
    order(them, role, Fault("kill", AT))
    asking = them.asking(20, large(book))
    victim = them.members[f"{role}-0"]
    assert victim.leader is not None
    await victim.leader.process.wait()
    await them.restart(victim.name)
    assert await asking == picture(20)
    assert book.places.count(SENDERS[role]) == 2
    await them.comes_home()


async def test_f2_a_receiver_killed_in_the_middle_of_a_write(them: Troupe, tmp_path: Path) -> None:
    book, gate = Book(tmp_path / "book"), tmp_path / "gate"
    path = order(them, "encoder", Fault("wait", AT, str(gate)))
    asking = them.asking(30, large(book))
    await taken(path)
    await them.kill("denoiser-0")
    gate.touch()
    await them.start("denoiser-0")
    assert await asking == picture(30)
    await them.comes_home()


async def test_f2_i12_a_sender_that_sleeps_in_its_write_keeps_its_slots_shut(
    them: Troupe, tmp_path: Path
) -> None:
    """It counts as dead, yet may wake and write on: so nobody else gets these slots until it has
    said that it will not. Its request goes on meanwhile, at another encoder."""
    book = Book(tmp_path / "book")
    path = order(them, "encoder", Fault("stop", AT))
    asking = them.asking(40, large(book))
    await taken(path)
    sleeper = psutil.Process(them.members["encoder-0"].pid)
    await them.join("encoder-1")
    assert await asking == picture(40)
    assert sleeper.status() == psutil.STATUS_STOPPED
    assert (await them.seen("denoiser-0"))["slots"]["quarantined"] == 2
    os.kill(sleeper.pid, signal.SIGCONT)
    await them.comes_home()
    assert await them.is_ready("encoder-0")
    await them.kill("encoder-1")
