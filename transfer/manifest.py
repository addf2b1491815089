"""The description of a payload's body: a tree of plain values, and the objects that have bytes.

Body, from byte 128 of the payload: the manifest's length (u64, little-endian), the manifest
(msgpack), zeros up to a multiple of 64, then the bytes of each object in the manifest's order, each
filled up with zeros to a multiple of 64. Nothing says where an object's bytes begin: the order
and the lengths do, so nothing can point outside the payload or at another's bytes.

Only the kinds that are written out below exist on the wire, and none of them names a class.
"""

import struct
from typing import Literal

import msgspec

from transfer.errors import PayloadError
from transfer.header import HEADER_BYTES

ALIGNMENT = 64
MAX_DEPTH = 64
MAX_OBJECTS = 1 << 16
MAX_MANIFEST_BYTES = 4 << 20
MAX_DIMENSIONS = 64
# what a tensor without storage of its own (all strides zero) may pretend to be
MAX_EXPANDED_BYTES = 1 << 36

LENGTH = struct.Struct("<Q")


class Node(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything in a manifest."""


# ---------------------------------------------------------------- objects: what has bytes


class Tensor(Node, frozen=True, tag="t"):
    """A dense torch tensor. `stride` None: contiguous. `expanded`: the bytes are one element, and
    the tensor is that element seen `shape` times. `host` False: it lay on an accelerator."""

    nbytes: int
    dtype: str
    shape: list[int]
    stride: list[int] | None = None
    expanded: bool = False
    host: bool = True


class Array(Node, frozen=True, tag="a"):
    """A numpy array, contiguous; or, `scalar`, a numpy scalar."""

    nbytes: int
    dtype: str
    shape: list[int]
    scalar: bool = False


class Generator(Node, frozen=True, tag="g"):
    """A torch.Generator; the bytes are its state."""

    nbytes: int
    device: str


class Image(Node, frozen=True, tag="i"):
    """A PIL image; the bytes are its raw pixels."""

    nbytes: int
    mode: str
    width: int
    height: int


class Bytes(Node, frozen=True, tag="b"):
    nbytes: int


Object = Tensor | Array | Generator | Image | Bytes


# ---------------------------------------------------------------- the tree


class Ref(Node, frozen=True, tag="o"):
    """The object of that number. Two references to one number are one and the same object."""

    index: int


class List(Node, frozen=True, tag="l"):
    items: "list[Tree]"


class Tuple(Node, frozen=True, tag="u"):
    items: "list[Tree]"


class Dict(Node, frozen=True, tag="d"):
    items: "list[tuple[Key, Tree]]"


class Fields(Node, frozen=True, tag="r"):
    """A model's output object; becomes a `transfer.record.Record`."""

    items: "list[tuple[str, Tree]]"


class Known(Node, frozen=True, tag="k"):
    """An instance of a class in the closed table of `transfer.known`, by its attributes."""

    kind: str
    items: "list[Tree]"


class BigInt(Node, frozen=True, tag="n"):
    """An int of more than 64 bits: two's complement, little-endian."""

    data: bytes


class Size(Node, frozen=True, tag="s"):
    shape: list[int]


class Dtype(Node, frozen=True, tag="y"):
    name: str


class Device(Node, frozen=True, tag="v"):
    name: str


class Range(Node, frozen=True, tag="e"):
    kind: Literal["range", "slice"]
    start: int | None
    stop: int | None
    step: int | None


Key = None | bool | int | float | str
Plain = Key
Tree = Plain | Ref | List | Tuple | Dict | Fields | Known | BigInt | Size | Dtype | Device | Range


class Manifest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    tree: Tree
    objects: list[Object]

    @property
    def objects_bytes(self) -> int:
        return sum(aligned(thing.nbytes) for thing in self.objects)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Manifest)


def aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def objects_at(manifest_bytes: int) -> int:
    """Where in the payload the first object begins."""
    return aligned(HEADER_BYTES + LENGTH.size + manifest_bytes)


def encode(manifest: Manifest) -> bytes:
    """Raises `PayloadError` if the tree is too large or holds text that is not Unicode."""
    if len(manifest.objects) > MAX_OBJECTS:
        raise PayloadError(f"{len(manifest.objects)} tensors, {MAX_OBJECTS} allowed")
    try:
        data = _encoder.encode(manifest)
    except (UnicodeEncodeError, OverflowError, RecursionError) as error:
        raise PayloadError(f"the payload cannot be described: {error}") from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise PayloadError(f"a manifest of {len(data)} bytes, {MAX_MANIFEST_BYTES} allowed")
    return data


def decode(data: bytes, nbytes: int) -> Manifest:
    """The manifest of a payload of `nbytes`; its objects fill that payload exactly."""
    try:
        manifest = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"the manifest is not understood: {error}") from error
    if len(manifest.objects) > MAX_OBJECTS:
        raise PayloadError(f"{len(manifest.objects)} tensors, {MAX_OBJECTS} allowed")
    if any(thing.nbytes < 0 for thing in manifest.objects):
        raise PayloadError("an object of negative length")
    described = objects_at(len(data)) + manifest.objects_bytes
    if described != nbytes:
        raise PayloadError(f"the manifest describes {described} bytes, the payload has {nbytes}")
    return manifest


def elements(shape: list[int]) -> int:
    """How many elements a shape has. Raises `PayloadError` on one that cannot be."""
    if len(shape) > MAX_DIMENSIONS:
        raise PayloadError(f"a shape of {len(shape)} dimensions, {MAX_DIMENSIONS} allowed")
    if any(not 0 <= size < 1 << 63 for size in shape):
        raise PayloadError(f"the shape {shape} cannot be")
    count = 0 if 0 in shape else 1
    for size in shape:
        count *= size
    if count >= 1 << 63:
        raise PayloadError(f"the shape {shape} cannot be")
    return count


def contiguous(shape: list[int]) -> list[int]:
    """The strides of a contiguous tensor of this shape."""
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= size
    return stride[::-1]


def is_dense(shape: list[int], stride: list[int]) -> bool:
    """Whether elements laid out like this fill a piece of memory exactly, none twice."""
    if len(shape) != len(stride) or any(not 0 <= step < 1 << 63 for step in stride):
        return False
    expected = 1
    moving = (pair for pair in zip(stride, shape, strict=True) if pair[1] != 1)
    for step, size in sorted(moving):
        if step != expected:
            return False
        expected *= size
    return True
