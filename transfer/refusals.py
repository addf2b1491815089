"""Counts the connections to a server that never got past the handshake. Pure."""

from collections import Counter
from typing import Literal

import zmq

from transfer.monitor import Happening

Reason = Literal["key", "mechanism", "bytes"]

_NO_KEY = {zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH}


class Refusals:
    """Tells from a server's events which connections were refused, and why.

    key: it showed a key that is not the cluster's. mechanism: it speaks ZeroMQ, without a key of
    this kind. bytes: all else; it spoke no ZeroMQ, said nothing in time, or hung up.

    ZeroMQ says nothing of strangers that speak another protocol but that they came and went, and
    nothing of who it was that succeeded. So these are what is left when successes, known failures
    and connections that may still succeed are taken from all that came: `note` never counts one
    too many, and `settle` has counted every one when it has been gone, or was quiet, for
    `handshake_s`.
    """

    def __init__(self, handshake_s: float) -> None:
        self.counts: Counter[Reason] = Counter()
        self._handshake_s = handshake_s
        self._accepted = self._succeeded = 0
        self._young: dict[int, float] = {}  # descriptor → accepted at, the oldest first

    def note(self, happening: Happening, now: float) -> Reason | None:
        """One event; the reason, if it says that a connection was refused."""
        event, value = happening
        reason: Reason | None = None
        if event == zmq.EVENT_ACCEPTED:
            self._accepted += 1
            self._young.pop(value, None)
            self._young[value] = now
        elif event == zmq.EVENT_DISCONNECTED:
            self._young.pop(value, None)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._succeeded += 1
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            reason = "key"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            reason = "mechanism" if value in _NO_KEY else "key"
        if reason:
            self.counts[reason] += 1
        return reason

    def settle(self, now: float) -> int:
        """How many more were refused for their bytes, as far as can be known now."""
        for descriptor, accepted in list(self._young.items()):
            if now - accepted <= self._handshake_s:
                break
            del self._young[descriptor]  # it has succeeded, or ZeroMQ has hung up
        known = self._succeeded + self.counts.total() + len(self._young)
        more = max(0, self._accepted - known)
        self.counts["bytes"] += more
        return more

    @property
    def open(self) -> bool:
        """Whether time alone may tell more."""
        return bool(self._young)
