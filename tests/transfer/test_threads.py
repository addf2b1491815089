"""Blocking calls off the event loop."""

import asyncio
import subprocess
import sys
import threading

import pytest

from transfer.threads import in_thread


async def test_the_result_comes_back() -> None:
    assert await in_thread(lambda a, b: a + b, 1, 2) == 3


async def test_the_error_comes_back() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


async def test_a_call_that_hangs_delays_no_other() -> None:
    release = threading.Event()
    hanging = [in_thread(release.wait, 30) for _ in range(40)]
    assert await asyncio.wait_for(in_thread(lambda: "here"), 30) == "here"
    release.set()
    assert all(await asyncio.gather(*hanging))


async def test_threads_are_taken_again() -> None:
    calls = 20
    assert len({await in_thread(threading.get_ident) for _ in range(calls)}) < calls


async def test_a_cancelled_future_does_not_harm_the_call() -> None:
    release, done = threading.Event(), threading.Event()

    def call() -> None:
        release.wait(30)
        done.set()

    future = in_thread(call)
    future.cancel()
    release.set()
    assert await asyncio.to_thread(done.wait, 30)
    assert await in_thread(lambda: 1) == 1


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    code = (
        "import asyncio, threading\n"
        "from transfer.threads import in_thread\n"
        "async def main(): in_thread(threading.Event().wait)\n"
        "asyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
