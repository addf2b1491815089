"""Work that ends with the client's connection."""

import asyncio

import pytest
from starlette.types import Message

from orchestrator.http.errors import ClientGone
from orchestrator.http.gone import until_gone


class Connection:
    """A client whose connection says what the test puts into it."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[Message] = asyncio.Queue()

    async def receive(self) -> Message:
        return await self.said.get()

    def close(self) -> None:
        self.said.put_nowait({"type": "http.disconnect"})


async def _others() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}


async def test_work_of_a_client_that_stays_gives_its_result() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await until_gone(Connection().receive, work()) == 7
    assert await _others() == set()


async def test_work_of_a_client_that_goes_is_cancelled_and_waited_for() -> None:
    connection, ended = Connection(), []

    async def work() -> None:
        connection.close()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    with pytest.raises(ClientGone):
        await until_gone(connection.receive, work())
    assert ended == [True]
    assert await _others() == set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_connection_that_cannot_be_read_is_gone() -> None:
    async def receive() -> Message:
        raise OSError("scripted")

    with pytest.raises(ClientGone):
        await until_gone(receive, asyncio.Event().wait())


async def test_what_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("scripted")

    with pytest.raises(ValueError, match="scripted"):
        await until_gone(Connection().receive, work())
    assert await _others() == set()


async def test_who_cancels_the_caller_is_obeyed() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    connection = Connection()
    caller = asyncio.ensure_future(until_gone(connection.receive, work()))
    await begun.wait()
    connection.close()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await _others() == set()
