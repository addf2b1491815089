"""What the ranks of one life write down for each other: where each listens. Pure.

Torch's own store for this (TCPStore) is a port that anybody may write to. This one is reached
through the leader's rendezvous, past the cluster's key.
"""

from roles.nodes.messages import (
    BookAdd,
    BookAsk,
    BookCount,
    BookDelete,
    BookGet,
    BookSet,
    BookSwap,
    Looked,
)

MAX_BYTES = 64 << 20  # a few hundred bytes for each pair of ranks, and group


class Book:
    """Keys and values of one `life`; `begin` empties it for the next."""

    def __init__(self, life: int) -> None:
        self.life = life
        self._written: dict[str, bytes] = {}
        self._nbytes = 0

    def begin(self, life: int) -> None:
        """From now on whoever comes of an earlier life is told that it is over."""
        self.life = life
        self._written.clear()
        self._nbytes = 0

    def answer(self, ask: BookAsk) -> Looked:
        if ask.life != self.life:
            return Looked(closed=True)
        match ask:
            case BookSet():
                return Looked(closed=not self._write(ask.key, ask.value))
            case BookGet():
                there = {key: self._written[key] for key in ask.keys if key in self._written}
                return Looked(there)
            case BookAdd():
                number = _number(self._written.get(ask.key)) + ask.amount
                return Looked(number=number, closed=not self._write(ask.key, b"%d" % number))
            case BookSwap():
                return self._swap(ask)
            case BookDelete():
                gone = self._written.pop(ask.key, None)
                self._nbytes -= 0 if gone is None else len(ask.key) + len(gone)
                return Looked(number=int(gone is not None))
            case BookCount():
                return Looked(number=len(self._written))

    def _swap(self, ask: BookSwap) -> Looked:
        there = self._written.get(ask.key)
        if (there or b"") == ask.expected:
            closed = not self._write(ask.key, ask.value)
            return Looked({ask.key: ask.value}, closed=closed)
        return Looked({ask.key: ask.expected if there is None else there})

    def _write(self, key: str, value: bytes) -> bool:
        """Whether there was room."""
        before = self._written.get(key)
        more = len(value) - len(before) if before is not None else len(key) + len(value)
        if self._nbytes + more > MAX_BYTES:
            return False
        self._nbytes += more
        self._written[key] = value
        return True


def _number(written: bytes | None) -> int:
    try:
        return int(written or b"0")
    except ValueError:
        return 0
