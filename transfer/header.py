"""The first 128 bytes of every payload: whose it is, so that a stale or foreign write is seen.

The sender writes the header into its outbox in front of the body; the receiver's leader checks it
against what the orchestrator announced (`Delivery`) before any rank reads the body.
"""

import struct

import xxhash

from transfer.errors import PayloadError
from transfer.messages import Delivery

HEADER_BYTES = 128
MAGIC = b"TRIPTYCH"
VERSION = 1

# magic, version, attempt, generation, nbytes, checksum, digest of the request's id; then zeros
_LAYOUT = struct.Struct("<8sIIQQQ16s")
_FIELDS = ("magic", "version", "attempt", "generation", "nbytes", "checksum", "request")


def write_header(
    view: memoryview, request: str, attempt: int, generation: int, nbytes: int, checksum: int
) -> None:
    """Writes the header into the first bytes of a payload's first segment.

    `nbytes` counts the header too; `checksum` is the xxh3_64 of the body, as `Packed.write`
    returned it.
    """
    fields = (MAGIC, VERSION, attempt, generation, nbytes, checksum, digest(request))
    view[:HEADER_BYTES] = _LAYOUT.pack(*fields).ljust(HEADER_BYTES, b"\0")


def check_header(view: memoryview, request: str, attempt: int, delivery: Delivery) -> None:
    """Raises `PayloadError`, naming the field that differs, unless this is what was announced."""
    if len(view) < HEADER_BYTES:
        raise PayloadError(f"a payload of {len(view)} bytes has no header")
    expected: tuple[bytes | int, ...] = (
        MAGIC,
        VERSION,
        attempt,
        delivery.generation,
        delivery.nbytes,
        delivery.checksum,
        digest(request),
    )
    found: tuple[bytes | int, ...] = _LAYOUT.unpack_from(bytes(view[:HEADER_BYTES]))
    for name, want, have in zip(_FIELDS, expected, found, strict=True):
        if want != have:
            message = f"the payload's {name} is {_readable(have)}, {_readable(want)} was announced"
            raise PayloadError(message)


def digest(request: str) -> bytes:
    """16 bytes that stand for a request's id, whatever its length."""
    return xxhash.xxh3_128_digest(request.encode())


def _readable(value: bytes | int) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
