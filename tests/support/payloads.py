"""Payloads packed into segments, and there and back again."""

from typing import Any

from transfer.payload import pack, unpack


def packed(value: object, sizes: list[int] | None = None) -> tuple[list[memoryview], int, int]:
    """Segments of these sizes (bytes; one that fits if left out), how much is in them, the
    checksum."""
    made = pack(value)
    segments = [memoryview(bytearray(b"\xff" * size)) for size in sizes or [made.nbytes]]
    return segments, made.nbytes, made.write(segments)


def through(value: object) -> Any:
    """What comes out of it again."""
    return unpack(*packed(value))
