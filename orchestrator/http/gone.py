"""Work for a client is worth doing only as long as the client is there."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from orchestrator.http.errors import ClientGone

T = TypeVar("T")


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Runs `work`, whose request body has been read, in the calling task. When the client closes
    its connection first, `work` is cancelled, and `ClientGone` raised once it has ended. Leaves no
    task behind."""
    doing = asyncio.current_task()
    assert doing is not None
    watching = asyncio.ensure_future(_disconnect(receive, doing))
    try:
        return await work
    except asyncio.CancelledError:
        # ours to take back, as in asyncio.timeout, unless others want this task to end too
        if watching.done() and doing.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def _disconnect(receive: Receive, doing: "asyncio.Task[Any]") -> None:
    with contextlib.suppress(Exception):  # a connection that cannot be read is gone too
        while (await receive())["type"] != "http.disconnect":
            pass
    doing.cancel()
