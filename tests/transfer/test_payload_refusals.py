"""What cannot cross is named; what was changed on the way is a PayloadError."""

import contextlib
import enum
import resource
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import xxhash
from diffusers.models.autoencoders.vae import DecoderOutput, IdentityDistribution
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.payloads import packed, through
from tests.support.trees import random_tensor, same, trees
from transfer import flatten, manifest
from transfer.errors import PayloadError
from transfer.header import HEADER_BYTES
from transfer.payload import CHUNK_BYTES, pack, unpack

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

SMALL = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---------------------------------------------------------------- what cannot cross


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, object()]}, r"\$\['a'\]\[1\]: a object cannot cross"),
        ([len], "builtin_function_or_method cannot cross"),
        ({1, 2}, "set cannot cross"),
        (1j, "complex cannot cross"),
        (Colour.RED, "Colour cannot cross"),
        ({(1, 2): 3}, "tuple as a key"),
        ({1 << 70: 3}, "int as a key"),
        (torch.zeros(2, device="meta"), "meta device"),
        (torch.zeros(2).to_sparse(), "layout torch.sparse_coo"),
        (np.array(["text"]), "numpy array of <U4"),
        (np.array([None]), "numpy array of object"),
        (Image.new("P", (2, 2)), "mode P, convert it"),
        (range(1 << 70), "cannot cross"),
        ("\ud800", "cannot be described"),
        (DecoderOutput(sample=object()), r"\$\.sample: a object cannot cross"),
        (IdentityDistribution(object()), r"\$:identity\[0\]: a object cannot cross"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_cross_is_named_with_its_place(value: object, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        pack(value)


def test_a_tensor_subclass_cannot_cross() -> None:
    class Wrapped(torch.Tensor):
        pass

    with pytest.raises(PayloadError, match="a Wrapped"):
        pack(torch.zeros(2).as_subclass(Wrapped))


def test_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatten, "MAX_NODES", 10_000)
    monkeypatch.setattr(manifest, "MAX_OBJECTS", 100)
    endless: list[object] = []
    endless.append(endless)
    wide: list[object] = []
    for _ in range(40):
        wide = [wide, wide]
    for value in (endless, wide, [torch.zeros(1) for _ in range(101)], ["x" * (5 << 20)]):
        with pytest.raises(PayloadError):
            pack(value)


# ---------------------------------------------------------------- segments and checksums


@pytest.mark.parametrize(
    "size", [0, 1, 4095, 4096, 4097, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 1 << 20]
)
@pytest.mark.parametrize("segment", [1000, 4096, 64 << 10, 5 << 20])
def test_every_size_over_every_segment(size: int, segment: int) -> None:
    value = random_tensor(torch.uint8, (size,), size)
    nbytes = pack(value).nbytes
    segments, nbytes, checksum = packed(value, [segment] * -(-nbytes // segment))
    assert torch.equal(unpack(segments, nbytes, checksum), value)
    joined = b"".join(segments)
    assert joined[:HEADER_BYTES] == b"\xff" * HEADER_BYTES
    assert set(joined[nbytes:]) <= {0xFF}
    assert xxhash.xxh3_64_intdigest(joined[HEADER_BYTES:nbytes]) == checksum


def test_segments_shorter_than_a_header_and_empty_ones() -> None:
    value = torch.arange(100)
    sizes = [0, 1, 50, 0, 100, 3, *([64] * 40)]
    segments, nbytes, checksum = packed(value, sizes)
    assert torch.equal(unpack(segments, nbytes, checksum), value)


def test_the_same_value_gives_the_same_bytes() -> None:
    value = {"a": torch.arange(5), "b": [1, "x"]}
    (first,), _, one = packed(value)
    (second,), _, two = packed(value)
    assert (bytes(first), one) == (bytes(second), two)


@pytest.mark.parametrize("at", [HEADER_BYTES, HEADER_BYTES + 9, 200, -1, CHUNK_BYTES + 200])
def test_a_flipped_bit_is_seen(at: int) -> None:
    segments, nbytes, checksum = packed([torch.zeros(100_000), "text"])
    segments[0][at] ^= 0x10
    with pytest.raises(PayloadError, match="checksum"):
        unpack(segments, nbytes, checksum)


def test_every_single_byte_counts() -> None:
    segments, nbytes, checksum = packed({"x": torch.arange(3), "y": [1.5, None]})
    for at in range(HEADER_BYTES, nbytes):
        segments[0][at] ^= 1
        with pytest.raises(PayloadError, match="checksum"):
            unpack(segments, nbytes, checksum)
        segments[0][at] ^= 1
    unpack(segments, nbytes, checksum)


@pytest.mark.parametrize("nbytes", [0, 127, 128, 130, 1 << 60, -1])
def test_a_length_that_cannot_be(nbytes: int) -> None:
    segments, _, checksum = packed(torch.arange(9))
    with pytest.raises(PayloadError):
        unpack(segments, nbytes, checksum)


def test_too_little_room_to_write() -> None:
    made = pack(torch.arange(9))
    with pytest.raises(PayloadError, match="in segments of"):
        made.write([memoryview(bytearray(made.nbytes - 1))])


# ---------------------------------------------------------------- lies behind a right checksum


def forged(tree: object, objects: list[object], data: bytes = b"") -> tuple[Any, int, int]:
    """A payload with any manifest, and the checksum that fits it."""
    described = msgspec.msgpack.encode([tree, objects])
    head = struct.pack("<Q", len(described)) + described
    body = head.ljust(manifest.objects_at(len(described)) - HEADER_BYTES, b"\0") + data
    whole = memoryview(bytearray(bytes(HEADER_BYTES) + body))
    return [whole], len(whole), xxhash.xxh3_64_intdigest(body)


def test_a_forged_payload_that_is_right_passes() -> None:
    tensor = ["t", 64, "uint8", [8, 8], None, False, True]
    assert unpack(*forged(["o", 0], [tensor], bytes(64))).shape == (8, 8)


@pytest.mark.parametrize(
    ("tree", "thing"),
    [
        (["o", 1], ["t", 64, "uint8", [64], None, False, True]),
        (["o", -1], ["t", 64, "uint8", [64], None, False, True]),
        (["o", 0], ["t", 64, "uint8", [65], None, False, True]),
        (["o", 0], ["t", 64, "float32", [64], None, False, True]),
        (["o", 0], ["t", 64, "eval", [64], None, False, True]),
        (["o", 0], ["t", 64, "uint8", [-1, -64], None, False, True]),
        (["o", 0], ["t", 64, "uint8", [1 << 32, 1 << 32, 1 << 32], None, False, True]),
        (["o", 0], ["t", 64, "uint8", [1 << 63], None, False, True]),
        (["o", 0], ["t", 64, "uint8", [8, 8], [8, 2], False, True]),
        (["o", 0], ["t", 64, "uint8", [8, 8], [1 << 40, 1], False, True]),
        (["o", 0], ["t", 64, "uint8", [8, 8], [-8, 1], False, True]),
        (["o", 0], ["t", 64, "uint8", [8, 8], [8], False, True]),
        (["o", 0], ["t", 64, "uint8", [8, 8], [0, 0], False, True]),
        (["o", 0], ["t", 64, "float64", [1 << 40], None, True, True]),
        (["o", 0], ["t", 64, "uint8", [64] + [1] * 100, None, False, True]),
        (["o", 0], ["t", 64, "bool", [64], None, False, True]),
        (["o", 0], ["t", -64, "uint8", [64], None, False, True]),
        (["o", 0], ["t", 1 << 60, "uint8", [1 << 60], None, False, True]),
        (["o", 0], ["a", 64, "object", [8], False]),
        (["o", 0], ["a", 64, "uint8", [63], False]),
        (["o", 0], ["a", 64, "uint8", [64], True]),
        (["o", 0], ["a", 64, "bool", [64], False]),
        (["o", 0], ["g", 64, "cpu"]),
        (["o", 0], ["g", 64, "nonsense"]),
        (["o", 0], ["i", 64, "RGB", 1 << 31, 1 << 31]),
        (["o", 0], ["i", 64, "P", 8, 8]),
        (["o", 0], ["i", 64, "L", -8, -8]),
        (["o", 0], ["x", 64]),
        (["k", "gaussian", [["o", 0], False]], ["t", 64, "uint8", [64], None, False, True]),
        (["k", "os.system", ["true"]], ["b", 64]),
        (["k", "identity", []], ["b", 64]),
        (["v", "nonsense:3"], ["b", 64]),
        (["y", "Tensor"], ["b", 64]),
        (["s", [-1]], ["b", 64]),
        (["e", "range", 0, 1, 0], ["b", 64]),
        (["e", "range", None, 1, 1], ["b", 64]),
        (["e", "exec", 0, 1, 1], ["b", 64]),
        (["d", [["a", 1], ["a", 2]]], ["b", 64]),
        (["d", [[["l", []], 1]]], ["b", 64]),
        (["r", [["__class__", 1]]], ["b", 64]),
        (["r", [["not a name", 1]]], ["b", 64]),
        (["r", [["a", 1], ["a", 1]]], ["b", 64]),
        (["zz", 1], ["b", 64]),
    ],
    ids=repr,
)
def test_a_manifest_that_lies_is_refused(tree: object, thing: list[object]) -> None:
    with pytest.raises(PayloadError):
        unpack(*forged(tree, [thing], b"\x03" * 64))


def test_a_known_kind_of_a_hollow_tensor_is_refused() -> None:
    hollow = ["t", 4, "float32", [1 << 15, 1 << 15], None, True, True]
    with pytest.raises(PayloadError, match="expanded"):
        unpack(*forged(["k", "identity", [["o", 0]]], [hollow], bytes(64)))


def test_a_manifest_deeper_than_any_stack_is_refused() -> None:
    for depth in (70, 5000):
        deep = b"\x92\xa1l\x91" * depth + b"\xc0"
        described = b"\x92" + deep + b"\x90"
        body = struct.pack("<Q", len(described)) + described
        body = body.ljust(manifest.objects_at(len(described)) - HEADER_BYTES, b"\0")
        whole = memoryview(bytearray(bytes(HEADER_BYTES) + body))
        with pytest.raises(PayloadError):
            unpack([whole], len(whole), xxhash.xxh3_64_intdigest(body))


@SMALL
@given(trees)
def test_random_trees_come_back_the_same(value: object) -> None:
    assert same(through(value), value)


@SMALL
@given(trees, st.data())
def test_random_corruption_is_never_more_than_a_payload_error(
    value: object, data: st.DataObject
) -> None:
    segments, nbytes, _ = packed(value)
    body = segments[0][HEADER_BYTES:]
    length = struct.unpack_from("<Q", body)[0] + 8
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(length, len(body)) - 1) | st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    checksum = xxhash.xxh3_64_intdigest(body)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(PayloadError):
        unpack(segments, nbytes, checksum)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - taken < 64 << 10


@SMALL
@given(st.binary(max_size=300))
def test_random_bytes_are_never_more_than_a_payload_error(body: bytes) -> None:
    whole = memoryview(bytearray(bytes(HEADER_BYTES) + body))
    with pytest.raises(PayloadError):
        unpack([whole], len(whole), xxhash.xxh3_64_intdigest(body))
