"""Files that are made while the ranks go on with the next request."""

import asyncio

import pytest

from tests.support.engine_room import CAPACITY, EngineRoom
from transfer.messages import Abort, Aborted, ErrorInfo, Failed, Finished


async def test_the_next_is_decoded_while_files_are_made() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "collect"
        room.accept(room.work("a", "decoder"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.skip = 1
        room.accept(room.work("b", "decoder"))
        assert (await room.hear(Finished)).request == "b"
        room.ranks.go.set()
        assert (await room.hear(Finished)).request == "a"
        await room.at_home()


async def test_files_in_the_making_take_a_place() -> None:
    """Or decoded pictures without end would wait for a slow encoder."""
    async with EngineRoom() as room:
        room.ranks.hold = "collect"
        places = CAPACITY["decoder"]
        for number in range(places + 1):
            room.accept(room.work(f"r{number}", "decoder"))
        told = await room.hear(Failed)
        assert (told.request, told.error.kind) == (f"r{places}", "internal")
        room.ranks.go.set()
        for _ in range(places):
            await room.hear(Finished)
        await room.at_home()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_abort_while_files_are_made_ends_with_one_word(when: str) -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "collect"
        room.accept(room.work("r", "decoder"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        if when == "after":
            room.ranks.go.set()
        room.engine.abort(Abort(5, "r", 1, ""), 5)
        assert (await room.hear(Aborted)).request == "r"
        room.ranks.go.set()
        await room.at_home()
        assert "drop r" in room.ranks.done
        assert not [m for m in room.said if isinstance(m, Finished | Failed)]


async def test_files_that_cannot_be_made_fail_their_own_request() -> None:
    async with EngineRoom() as room:
        room.ranks.bad_files = ErrorInfo("invalid_request", "image as wav", param="output_format")
        room.accept(room.work("r", "decoder"))
        told = await room.hear(Failed)
        assert (told.error.kind, told.error.param) == ("invalid_request", "output_format")
        await room.at_home()


async def test_a_rank_that_dies_making_files_dies_of_that_request() -> None:
    async with EngineRoom() as room:
        room.ranks.hold = "collect"
        room.accept(room.work("r", "decoder"))
        await asyncio.wait_for(room.ranks.held.wait(), 10)
        room.ranks.die("died of SIGSEGV")
        error = (await room.hear(Failed)).error
        assert (error.kind, error.bystander) == ("rank_died", False)
        assert error.message.endswith("SIGSEGV during the making of the files of request r")
