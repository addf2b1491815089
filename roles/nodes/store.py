"""The store of torch.distributed for ranks on several hosts: the book in their leader.

In the place of a TCPStore, whose port anybody may write to: this goes through the rendezvous, past
the cluster's key, and a rank of an earlier start finds nobody there.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist
import zmq

from roles.nodes.messages import (
    BookAdd,
    BookAsk,
    BookCount,
    BookDelete,
    BookGet,
    BookSet,
    BookSwap,
    Looked,
    to_rank_store,
)
from transfer.codec import MAX_FRAME_BYTES, ProtocolError, encode
from transfer.guard import SEAL_BYTES
from transfer.keys import KeyPair

ANSWER_S = 60.0  # for the leader, which answers at once when it is there
LOOK_S, SELDOM_S = 0.002, 0.1  # between two looks for a key that is not there yet


class LifeOver(RuntimeError):
    """These ranks have been given up; others have taken their place, or are about to."""


class LeaderStore(dist.Store):  # type: ignore[name-defined,misc]
    """A `torch.distributed.Store`; its methods are those of torch, called from any thread.

    `endpoint`: the rendezvous. `life`: of this pool of ranks. What waits does so for `timeout`, and
    raises `DistStoreError`; a leader that is gone, or has new ranks, is a RuntimeError.
    """

    def __init__(self, endpoint: str, life: int, keys: KeyPair, timeout: timedelta) -> None:
        super().__init__()
        self._life = life
        self._timeout = timeout
        self._one = threading.Lock()
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, int(endpoint.startswith("tcp://[")))
        self._socket.setsockopt(zmq.RCVTIMEO, int(ANSWER_S * 1000))
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES + SEAL_BYTES)
        keys.of_client(self._socket)
        self._socket.connect(endpoint)

    def close(self) -> None:
        """Nothing is looked up any more."""
        with self._one:
            self._socket.close()

    # ------------------------------------------------------------ what torch calls

    def set(self, key: str, value: Any) -> None:
        self._ask(BookSet(self._life, key, _bytes(value)))

    def get(self, key: str) -> bytes:
        return self._wait_for([key], self._timeout)[key]

    def multi_get(self, keys: list[str]) -> list[bytes]:
        found = self._wait_for(keys, self._timeout)
        return [found[key] for key in keys]

    def add(self, key: str, amount: int) -> int:
        return self._ask(BookAdd(self._life, key, amount)).number

    def compare_set(self, key: str, expected: Any, value: Any) -> bytes:
        swap = BookSwap(self._life, key, _bytes(expected), _bytes(value))
        return self._ask(swap).values[key]

    def delete_key(self, key: str) -> bool:
        return self._ask(BookDelete(self._life, key)).number > 0

    def num_keys(self) -> int:
        return self._ask(BookCount(self._life)).number

    def check(self, keys: list[str]) -> bool:
        return len(self._there(keys)) == len(set(keys))

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        self._wait_for(keys, timeout or self._timeout)

    def set_timeout(self, timeout: timedelta) -> None:
        self._timeout = timeout

    @property
    def timeout(self) -> timedelta:
        return self._timeout

    def clone(self) -> "LeaderStore":
        return self

    # ------------------------------------------------------------ the way there

    def _wait_for(self, keys: Sequence[str], timeout: timedelta) -> dict[str, bytes]:
        until, pause = time.monotonic() + timeout.total_seconds(), LOOK_S
        while len(found := self._there(keys)) < len(set(keys)):
            if time.monotonic() >= until:
                missing = sorted(set(keys) - set(found))
                raise dist.DistStoreError(f"nobody has written {missing[0]}")
            time.sleep(pause)
            pause = min(2 * pause, SELDOM_S)
        return found

    def _there(self, keys: Sequence[str]) -> dict[str, bytes]:
        return self._ask(BookGet(self._life, list(keys))).values

    def _ask(self, ask: BookAsk) -> Looked:
        with self._one:
            self._socket.send(encode(ask))
            try:
                answer = to_rank_store.decode(self._socket.recv())
            except zmq.Again:
                self._end()  # an answer that comes later would be taken for the next one's
                raise LifeOver("the leader does not answer") from None
            except (zmq.ZMQError, ProtocolError) as error:
                raise LifeOver(f"the leader cannot be understood: {error}") from error
        assert isinstance(answer, Looked)
        if answer.closed:
            raise LifeOver("the leader has given these ranks up")
        return answer

    def _end(self) -> None:
        with contextlib.suppress(zmq.ZMQError):
            self._socket.close()


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)
