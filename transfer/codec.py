"""Frames: a magic byte, a protocol version, and one msgspec message. Nothing else is ever decoded.

Every message is a tagged, frozen Struct that forbids unknown fields. A frame that is too large, of
another version, or that does not decode to one of the expected messages raises `ProtocolError`;
the loop that received it counts and logs it, and goes on.
"""

from typing import TypeVar

import msgspec

PROTOCOL = 1
MAGIC = 0x54  # "T"
MAX_FRAME_BYTES = 4 << 20

T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, tag_field="type"):
    """Base of everything that crosses a wire. Subclasses give their own tag.

    The garbage collector leaves them alone: what is frozen when it is made is in no cycle.
    """


class ProtocolError(Exception):
    """A frame that cannot be understood. `reason`: size | magic | version | message."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


_encoder = msgspec.msgpack.Encoder()
_PREFIX = bytes([MAGIC, PROTOCOL])


def encode(message: Message) -> bytes:
    """The frame of a message. Raises `ProtocolError` if it is larger than `MAX_FRAME_BYTES`."""
    frame = _PREFIX + _encoder.encode(message)
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError("size", f"a message of {len(frame)} bytes, {MAX_FRAME_BYTES} allowed")
    return frame


class Decoder:
    """Decodes frames into one of the given message types (a union)."""

    def __init__(self, union: object) -> None:
        self._decoder = msgspec.msgpack.Decoder(union)

    def decode(self, frame: bytes | memoryview) -> Message:
        if len(frame) > MAX_FRAME_BYTES:
            detail = f"a frame of {len(frame)} bytes, {MAX_FRAME_BYTES} allowed"
            raise ProtocolError("size", detail)
        if len(frame) < 3 or frame[0] != MAGIC:
            raise ProtocolError("magic", "not a Triptych frame")
        if frame[1] != PROTOCOL:
            raise ProtocolError("version", f"protocol {frame[1]}, this is {PROTOCOL}")
        try:
            return self._decoder.decode(memoryview(frame)[2:])  # type: ignore[no-any-return]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError("message", str(error)) from error
