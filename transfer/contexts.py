"""The end of a ZeroMQ context, which is waited for, but not for ever."""

import logging
import threading
from typing import Any

import zmq

END_S = 5.0

log = logging.getLogger(__name__)


def end(context: "zmq.Context[Any]", seconds: float = END_S) -> None:
    """Ends a context whose sockets are closed, after what they linger for.

    libzmq may wait for ever for a connection that was amid its handshake when the socket closed.
    Then that thread is left behind: the process is about to end, and must not hang for it.
    """
    ending = threading.Thread(target=context.term, name="end of a context", daemon=True)
    ending.start()
    ending.join(seconds)
    if ending.is_alive():
        log.warning("a ZeroMQ context has not ended within %g s, and is left behind", seconds)
