"""Payloads: values and tensors packed into slots, and taken out again with their checksum verified.

Used by ranks only: this imports torch. `transfer.manifest` says how the bytes lie.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from transfer import manifest
from transfer.errors import PayloadError
from transfer.flatten import Flattener
from transfer.header import HEADER_BYTES
from transfer.manifest import LENGTH, MAX_MANIFEST_BYTES, Manifest, aligned
from transfer.memory import prefer_huge_pages
from transfer.regrow import Regrower

Data = NDArray[np.uint8]

# small enough that what was copied is still in the processor's cache when it is hashed
CHUNK_BYTES = 256 << 10

_ZEROS = np.zeros(manifest.ALIGNMENT, np.uint8)
# what a constructor of torch, numpy or a known class raises on arguments that cannot be
_CONTRADICTIONS = (RuntimeError, ValueError, TypeError, IndexError, OverflowError)


def pack(value: object) -> "Packed":
    """Describes a value, without copying tensors that lie in host memory.

    None, bool, int, float, str, bytes, list, tuple (a namedtuple becomes a tuple), dict with plain
    keys, range, slice; torch tensors of every dtype and layout, Size, dtype, device, Generator;
    numpy arrays and scalars; PIL images; outputs of diffusers and transformers (they become a
    `transfer.record.Record`) and the distributions in `transfer.known`. Raises `PayloadError`
    naming the type and the path of anything else.
    """
    flat = Flattener()
    tree = flat.tree(value)
    return Packed(manifest.encode(Manifest(tree, flat.objects)), flat.data)


class Packed:
    """A value ready to be written. It holds on to the value's tensors, which must not change
    before `write` returned; `nbytes` is the length of the payload, header included."""

    def __init__(self, described: bytes, data: list[Data]) -> None:
        self._described = described
        self._data = data
        size = sum(aligned(piece.nbytes) for piece in data)
        self.nbytes = manifest.objects_at(len(described)) + size

    def write(self, segments: Sequence[memoryview]) -> int:
        """Writes the body behind the header's place, across the segments; returns its checksum.

        The checksum is that of the bytes as they lie in the segments.
        """
        sink = _Sink(segments, self.nbytes)
        sink.put(np.frombuffer(LENGTH.pack(len(self._described)) + self._described, np.uint8))
        for piece in self._data:
            sink.put(piece)
        return sink.checksum()


def unpack(
    segments: Sequence[memoryview],
    nbytes: int,
    checksum: int,
    *,
    device: torch.device | str | None = None,
) -> Any:
    """The value of a payload of `nbytes` (header included) whose body has this checksum.

    Everything is copied out, hashed as it was copied, and only then looked at: the slots may be
    given to others as soon as this returned, and a write that lands meanwhile is seen. Tensors
    come back in host memory; if `device` is given, those that lay on an accelerator go there.
    Raises `PayloadError`; the memory taken is bounded by `nbytes`.
    """
    described, data = _read(segments, nbytes, checksum)
    try:
        local = None if device is None else torch.device(device)
        return Regrower(described.objects, data, local).value(described.tree)
    except _CONTRADICTIONS as error:
        raise PayloadError(f"the payload contradicts itself: {error}") from error


def _read(
    segments: Sequence[memoryview], nbytes: int, checksum: int
) -> tuple[Manifest, list[torch.Tensor]]:
    source = _Source(segments, nbytes)
    try:
        described = _manifest(source, nbytes)
        data = [source.get(thing.nbytes) for thing in described.objects]
    except PayloadError as error:
        # bytes that are not the sender's have more to tell than what they made of the manifest
        source.verify(checksum, cause=error)
        raise
    source.verify(checksum)
    return described, data


def _manifest(source: "_Source", nbytes: int) -> Manifest:
    (length,) = LENGTH.unpack(source.get(LENGTH.size, padded=False).numpy().tobytes())
    if length > min(MAX_MANIFEST_BYTES, nbytes):
        raise PayloadError(f"a manifest of {length} bytes in a payload of {nbytes}")
    return manifest.decode(source.get(length).numpy().tobytes(), nbytes)


class _Stream:
    """A place in a payload's body, and the hash of what came before."""

    def __init__(self, segments: Sequence[memoryview], nbytes: int) -> None:
        room = sum(len(segment) for segment in segments)
        if not HEADER_BYTES <= nbytes <= room:
            raise PayloadError(f"a payload of {nbytes} bytes in segments of {room}")
        self._segments = [np.frombuffer(segment, np.uint8) for segment in segments]
        self._hash = xxhash.xxh3_64()
        self._segment = self._at = 0
        self._left = nbytes
        for _ in self._pieces(HEADER_BYTES):
            pass

    def _pieces(self, nbytes: int) -> Iterator[Data]:
        """The next `nbytes` of the segments, in chunks. Raises `PayloadError` past the end."""
        if nbytes > self._left:
            raise PayloadError(f"{nbytes} bytes asked of a payload, {self._left} are left")
        self._left -= nbytes
        while nbytes:
            segment = self._segments[self._segment]
            size = min(nbytes, CHUNK_BYTES, len(segment) - self._at)
            yield segment[self._at : self._at + size]
            self._at += size
            nbytes -= size
            if self._at == len(segment):
                self._segment, self._at = self._segment + 1, 0


class _Sink(_Stream):
    def put(self, data: Data) -> None:
        """Writes an object's bytes and the zeros after them."""
        self._copy(data)
        # only the manifest starts off the alignment; every object after it starts on it
        self._copy(_ZEROS[: self._left % manifest.ALIGNMENT])

    def checksum(self) -> int:
        return self._hash.intdigest()

    def _copy(self, data: Data) -> None:
        at = 0
        for piece in self._pieces(len(data)):
            piece[:] = data[at : at + len(piece)]
            self._hash.update(piece.data)
            at += len(piece)


class _Source(_Stream):
    def get(self, nbytes: int, *, padded: bool = True) -> torch.Tensor:
        """An object's bytes, copied out; the zeros after them are passed over."""
        if nbytes > self._left:
            raise PayloadError(f"an object of {nbytes} bytes, {self._left} are left")
        data = torch.empty(nbytes, dtype=torch.uint8)
        prefer_huge_pages(data.data_ptr(), nbytes)
        copy, at = data.numpy(), 0
        for piece in self._pieces(nbytes):
            taken = copy[at : at + len(piece)]
            taken[:] = piece
            self._hash.update(taken.data)
            at += len(piece)
        if padded:
            self._pass(self._left % manifest.ALIGNMENT)
        return data

    def verify(self, checksum: int, cause: Exception | None = None) -> None:
        """Reads what is left and compares."""
        self._pass(self._left)
        found = self._hash.intdigest()
        if found != checksum:
            message = f"the payload's checksum is {found:016x}, {checksum:016x} was announced"
            raise PayloadError(message) from cause

    def _pass(self, nbytes: int) -> None:
        for piece in self._pieces(nbytes):
            self._hash.update(piece.data)
