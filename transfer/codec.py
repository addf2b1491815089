"""Frames: a magic byte, a protocol version, and one msgspec message. Nothing else is ever decoded.

Every message is a tagged, frozen Struct that forbids unknown fields. A frame that is too large, of
another version, or that does not decode to one of the expected messages raises `ProtocolError`;
the loop that received it counts and logs it, and goes on.

One frame is the same in all versions: protocol 0 is a parting, a line of text that says why nothing
more will be said. It is the answer to a frame of another version.
"""

from typing import TypeVar

import msgspec

PROTOCOL = 2
MAGIC = 0x54  # "T"
MAX_FRAME_BYTES = 4 << 20
PARTING = 0
MAX_PARTING_BYTES = 500

T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, tag_field="type"):
    """Base of everything that crosses a wire. Subclasses give their own tag.

    The garbage collector leaves them alone: what is frozen when it is made is in no cycle.
    """


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Base of plain data inside messages. In no cycle either."""


class ProtocolError(Exception):
    """A frame that cannot be understood. `reason`: size | magic | version | message, or parting:
    the other side does not understand us, and its words are the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


_encoder = msgspec.msgpack.Encoder()
_PREFIX = bytes([MAGIC, PROTOCOL])


def encode(message: Message) -> bytes:
    """The frame of a message. Raises `ProtocolError` if it is larger than `MAX_FRAME_BYTES`, or has
    text that is none (half of a surrogate pair, as in names of files that are not UTF-8)."""
    try:
        frame = _PREFIX + _encoder.encode(message)
    except UnicodeEncodeError as error:
        raise ProtocolError("message", f"text that cannot be encoded: {error}") from error
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError("size", f"a message of {len(frame)} bytes, {MAX_FRAME_BYTES} allowed")
    return frame


def parting(frame: bytes) -> bytes:
    """What to answer to a frame of another version."""
    text = f"it speaks protocol {PROTOCOL}, and this instance protocol {frame[1]}"
    return bytes([MAGIC, PARTING]) + text.encode()


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
        if frame[1] == PARTING:
            raise ProtocolError("parting", _line(bytes(frame[2 : 2 + MAX_PARTING_BYTES])))
        if frame[1] != PROTOCOL:
            raise ProtocolError("version", f"protocol {frame[1]}, this is {PROTOCOL}")
        try:
            return self._decoder.decode(memoryview(frame)[2:])  # type: ignore[no-any-return]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError("message", str(error)) from error


def _line(text: bytes) -> str:
    """Fit for a log, whoever wrote it."""
    return "".join(char if char.isprintable() else "?" for char in text.decode(errors="replace"))
