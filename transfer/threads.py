"""Blocking calls off the event loop, in daemon threads: one that hangs keeps no process alive."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

IDLE_S = 10.0  # an idle thread ends after this

_Job = Callable[[], None]

_idle: list["queue.SimpleQueue[_Job]"] = []


def in_thread(function: Callable[..., T], *args: object) -> "asyncio.Future[T]":
    """Starts the call in a thread that nothing else uses meanwhile, so that no call waits for
    another. Cancelling the future does not end the call.

    Threads that have just finished a call are taken again: on a busy machine, waking one takes a
    tenth of the time that starting one may take.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def job() -> None:
        result, failure = None, None
        try:
            result = function(*args)
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(settle, result, failure)

    _start(job)
    return future


def _start(job: _Job) -> None:
    try:
        _idle.pop().put(job)
    except IndexError:
        jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        jobs.put(job)
        threading.Thread(target=_work, args=(jobs,), name="blocking call", daemon=True).start()


def _work(jobs: "queue.SimpleQueue[_Job]") -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            jobs.get(timeout=IDLE_S)()
            _idle.append(jobs)
    try:
        _idle.remove(jobs)
    except ValueError:  # it was taken for a call in this very moment
        jobs.get()()
