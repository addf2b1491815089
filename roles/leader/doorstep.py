"""Why an orchestrator does not answer: whether it hangs up on us before a word has been said."""

from typing import Any

import zmq

from transfer.keys import VARIABLE, KeyPair
from transfer.monitor import OF_CLIENT, Happening, Monitor

_NO_KEYS = zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH


class Doorstep:
    """Watches one client's socket from before it connects until it was welcomed; then `close`."""

    def __init__(self, socket: "zmq.Socket[Any]", endpoint: str, keys: KeyPair) -> None:
        self._monitor = Monitor(socket, OF_CLIENT)
        self._endpoint = endpoint
        self._folder = keys.folder
        self._shaking = False
        self._refusal: str | None = None

    def refusal(self) -> str | None:
        """What to tell the user, if the last thing that happened is that we were turned away."""
        for happening in self._monitor.read():
            self._note(happening)
        return self._refusal

    def close(self) -> None:
        self._monitor.close()

    def _note(self, happening: Happening) -> None:
        event, value = happening
        if event == zmq.EVENT_CONNECTED:
            self._shaking, self._refusal = True, None
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._shaking = False
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refuse(f"does not accept the key in {self._folder}", self._remedy)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == _NO_KEYS:
            self._refuse("takes no keys", "is that the --bind of this version of Triptych?")
        elif event == zmq.EVENT_DISCONNECTED and self._shaking:
            # what a server does to whom it cannot understand: ZeroMQ's, if its key is another one
            does = f"hangs up on the key in {self._folder}"
            self._refuse(does, f"unless another program listens there, {self._remedy}")

    @property
    def _remedy(self) -> str:
        return (
            "copy the orchestrator's key folder to this host and name it with "
            f"--keys (or {VARIABLE})"
        )

    def _refuse(self, does: str, remedy: str) -> None:
        self._shaking = False
        self._refusal = f"the orchestrator at {self._endpoint} {does}: {remedy}"
