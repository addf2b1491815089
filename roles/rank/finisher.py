"""Media files in the making, beside the rank's other work. Runs in the rank.

While one request's picture is encoded as a PNG, or its frames as a film, the device has nothing to
do with it: so that happens in a thread, and the rank decodes the next request meanwhile.
"""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from roles.calls import Key
from roles.rank.media import Encoded


@dataclass(frozen=True)
class Finished:
    """The files of one request, and the seconds that they took."""

    files: list[Encoded]
    seconds: float


Pending = Future[Finished]


class Finisher:
    """Makes the files of at most `threads` requests at a time; others wait in their order.

    How many wait is bounded by how many requests the instance takes. For each request `begin`,
    `collect`, and in the end `drop`, which closes the files, or forgets what is not begun yet. All
    are called from the rank's loop.
    """

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "media")
        self._making: dict[Key, Pending] = {}

    def begin(self, key: Key, make: Callable[[], list[Encoded]]) -> None:
        self._making[key] = self._threads.submit(_timed, make)

    def collect(self, key: Key, then: Callable[[Pending], None]) -> None:
        """Has `then` called once, when the files are there, or failed, or were dropped: at once, or
        from the thread that made them."""
        self._making[key].add_done_callback(then)

    def drop(self, key: Key) -> None:
        """What is being made at this moment is closed when it is there."""
        making = self._making.pop(key, None)
        if making is not None and not making.cancel():
            making.add_done_callback(_close)

    def close(self) -> None:
        """Drops everything, and returns when no thread works any more."""
        for key in list(self._making):
            self.drop(key)
        self._threads.shutdown()


def _timed(make: Callable[[], list[Encoded]]) -> Finished:
    began = time.perf_counter()
    return Finished(make(), time.perf_counter() - began)


def _close(making: Pending) -> None:
    with contextlib.suppress(Exception):  # of the making: there are no files then
        for file in making.result().files:
            file.close()
