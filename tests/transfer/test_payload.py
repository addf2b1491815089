"""Payloads: every value comes out as it went in; what was changed on the way is a PayloadError."""

import collections
import contextlib
import enum
import math
import resource
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import xxhash
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution
from diffusers.models.autoencoders.vae import (
    DecoderOutput,
    DiagonalGaussianDistribution,
    IdentityDistribution,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tests.support.trees import random_tensor, same, trees
from transfer import flatten, known, manifest
from transfer.errors import PayloadError
from transfer.header import HEADER_BYTES
from transfer.payload import CHUNK_BYTES, pack, unpack
from transfer.record import Record
from transfer.tensors import DTYPES

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

SMALL = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def packed(value: object, sizes: list[int] | None = None) -> tuple[list[memoryview], int, int]:
    made = pack(value)
    segments = [memoryview(bytearray(b"\xff" * size)) for size in sizes or [made.nbytes]]
    return segments, made.nbytes, made.write(segments)


def through(value: object) -> Any:
    return unpack(*packed(value))


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        1 << 63,
        (1 << 64) - 1,
        1 << 64,
        -(1 << 63) - 1,
        -(1 << 200),
        0.0,
        -0.0,
        math.inf,
        math.nan,
        5e-324,
        "",
        "text with ü and 🎨",
        b"",
        b"bytes",
        [],
        (),
        {},
        [1, [2, (3, None)], {"a": {1: b"x", None: True, 2.5: "y"}}],
        range(3, 9, 2),
        slice(None, 5),
        torch.Size([1, 2]),
        torch.bfloat16,
        torch.device("cuda:1"),
        torch.device("cpu"),
        np.float64(2.5),
        np.int8(-3),
        np.bool_(True),
    ],
    ids=repr,
)
def test_plain_values(value: object) -> None:
    assert same(through(value), value)


def test_int_and_float_and_bool_stay_apart() -> None:
    values = [1, 1.0, True]
    assert [type(value) for value in through(values)] == [int, float, bool]


def test_named_tuples_and_dict_subclasses_become_plain() -> None:
    pair = collections.namedtuple("pair", "a b")
    assert through(pair(1, 2)) == (1, 2)
    ordered = through(collections.OrderedDict(b=1, a=2))
    assert type(ordered) is dict
    assert list(ordered) == ["b", "a"]


def test_dicts_keep_their_order() -> None:
    value = {"z": 1, "a": 2, 3: 4}
    assert list(through(value)) == ["z", "a", 3]


# ---------------------------------------------------------------- tensors


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3), (1, 4, 1, 2)], ids=str)
@pytest.mark.parametrize("name", sorted(DTYPES))
def test_t17_every_dtype_and_shape(name: str, shape: tuple[int, ...]) -> None:
    tensor = random_tensor(DTYPES[name], shape)
    came = through(tensor)
    assert same(came, tensor)
    assert came.stride() == tensor.stride()


@pytest.mark.parametrize("near", [-1, 0, 1], ids=["just below", "at", "just above"])
@pytest.mark.parametrize("power", [10, 16, 20, 25])
def test_t17_a_payload_near_a_power_of_two_costs_its_own_size(power: int, near: int) -> None:
    size = (1 << power) + near
    value = {"none in a list": [None, torch.zeros(size, dtype=torch.uint8)], "empty": []}
    assert size < pack(value).nbytes < size + 4096
    assert same(through(value), value)


def test_v11_what_a_user_writes_is_never_taken_for_a_tensor() -> None:
    """Keys and values that look like any codec's own marks stay the plain values that they are."""
    marks = ["__tensor__", "tensor", "$ref", "type", "dtype", "data", "shape", "offset", "t", "k"]
    params: dict[str, object] = {mark: True for mark in marks}
    params |= {"nested": [{mark: mark} for mark in marks], "0": 0, "": None}
    manifest_like = {"kind": "tensor", "index": 0, "dtype": "float32", "shape": [4], "offset": 0}
    for value in (params, manifest_like, [manifest_like, torch.ones(4)]):
        assert same(through(value), value)


def test_every_dtype_of_this_torch_is_known_or_has_no_plain_bytes() -> None:
    quantized = {"qint8", "qint32", "quint8", "quint4x2", "quint2x4", "bit"}
    names = {str(d)[6:] for d in vars(torch).values() if isinstance(d, torch.dtype)}
    unknown = names - set(DTYPES) - quantized
    # shells without operations, which no model's tensors have
    assert all(name.startswith(("bits", "int", "uint")) for name in unknown), unknown


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)], ids=str)
def test_memory_layouts_are_kept(order: tuple[int, ...]) -> None:
    tensor = random_tensor(torch.float32, (2, 3, 4, 5), order=order)
    came = through(tensor)
    assert came.stride() == tensor.stride()
    assert same(came, tensor)


def test_channels_last_stays_channels_last_with_one_channel() -> None:
    tensor = torch.randn(2, 1, 4, 4).to(memory_format=torch.channels_last)
    assert through(tensor).stride() == tensor.stride()


def test_gaps_are_closed() -> None:
    base = torch.randn(6, 8)
    for view in (base[::2], base[:, 1:3], base[1:4, ::3], base[2]):
        came = through(view)
        assert same(came, view)
        assert came.is_contiguous()
        assert came.untyped_storage().nbytes() == view.numel() * 4


def test_a_slice_sends_only_its_own_bytes() -> None:
    base = torch.zeros(1 << 20)
    assert pack(base[5:9]).nbytes < 512


def test_a_tensor_without_storage_stays_without() -> None:
    tensor = torch.full((1,), 2.5, dtype=torch.bfloat16).expand(1000, 1000, 1000)
    assert pack(tensor).nbytes < 512
    came = through(tensor)
    assert came.shape == tensor.shape
    assert came.stride() == (0, 0, 0)
    assert came.untyped_storage().nbytes() == 2
    assert float(came[5, 6, 7]) == 2.5


def test_partly_expanded_tensors_are_sent_whole() -> None:
    tensor = torch.arange(4.0).expand(3, 4)
    came = through(tensor)
    assert same(came, tensor)
    assert came.is_contiguous()


def test_conjugated_and_negated_views_carry_their_values() -> None:
    tensor = torch.randn(4, dtype=torch.complex64)
    assert torch.equal(through(tensor.conj()), tensor.conj().resolve_conj())
    negative = tensor.conj().imag
    assert torch.equal(through(negative), negative.resolve_neg())


def test_gradients_stay_behind() -> None:
    parameter = torch.nn.Parameter(torch.randn(3))
    came = through(parameter)
    assert type(came) is torch.Tensor
    assert not came.requires_grad
    assert torch.equal(came, parameter.detach())


def test_one_object_twice_arrives_as_one() -> None:
    tensor, generator = torch.randn(1000), torch.Generator().manual_seed(3)
    came = through({"a": tensor, "b": [tensor], "g": generator, "h": (generator,)})
    assert came["a"] is came["b"][0]
    assert came["g"] is came["h"][0]
    assert pack([tensor, tensor]).nbytes < 2 * 4000


def test_what_came_out_belongs_to_the_receiver() -> None:
    segments, nbytes, checksum = packed([torch.arange(10), np.arange(10), b"abc"])
    came = unpack(segments, nbytes, checksum)
    segments[0][:] = bytes(nbytes)
    assert torch.equal(came[0], torch.arange(10))
    assert came[1].tolist() == list(range(10))
    came[0][0] = came[1][0] = 7
    assert came[2] == b"abc"


def test_the_generator_goes_on_where_it_was() -> None:
    generator = torch.Generator().manual_seed(5)
    torch.randn(3, generator=generator)
    came = through(generator)
    assert came.initial_seed() == 5
    assert torch.equal(torch.randn(9, generator=came), torch.randn(9, generator=generator))


def test_tensors_of_an_accelerator_go_to_the_device_that_is_given() -> None:
    """With meta standing for the accelerator: the manifest says where a tensor lay."""
    value = [torch.ones(2), torch.ones(2), torch.device("cuda:3"), torch.device("cpu")]
    tree = pack(value)
    described = msgspec.msgpack.decode(tree._described, type=manifest.Manifest)
    moved = msgspec.structs.replace(described.objects[1], host=False)
    objects = [described.objects[0], moved]
    tree._described = manifest.encode(manifest.Manifest(described.tree, objects))
    segments = [memoryview(bytearray(tree.nbytes))]
    checksum = tree.write(segments)
    here, there, device, cpu = unpack(segments, tree.nbytes, checksum, device="meta")
    assert (here.device.type, there.device.type) == ("cpu", "meta")
    assert (device, cpu) == (torch.device("meta"), torch.device("cpu"))


# ---------------------------------------------------------------- other objects


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3).T,
        np.arange(10)[::-2],
        np.array(3.5),
        np.zeros((0, 4), np.complex64),
        np.arange(4, dtype=">i4"),
        np.array([True, False]),
    ],
    ids=["transposed", "strided", "0-d", "empty", "big-endian", "bool"],
)
def test_numpy_arrays(array: np.ndarray) -> None:
    came = through(array)
    assert came.shape == array.shape
    assert came.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(came, array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
def test_pictures(mode: str) -> None:
    picture = (
        Image.effect_noise((13, 7), 50).convert("RGB").convert(mode)
        if mode not in ("I;16",)
        else Image.new(mode, (13, 7), 4000)
    )
    came = through(picture)
    assert (came.mode, came.size, came.tobytes()) == (mode, (13, 7), picture.tobytes())


def test_outputs_become_records() -> None:
    sample = torch.randn(2)
    came = through(DecoderOutput(sample=sample))
    assert isinstance(came, Record)
    assert torch.equal(came.sample, sample)
    assert came.commit_loss is None
    assert came[0] is came.sample
    assert came["sample"] is came.sample
    assert came.to_tuple() == (came.sample,)
    assert same(through(came), came)
    text = through(BaseModelOutputWithPooling(last_hidden_state=sample, pooler_output=sample))
    assert text.pooler_output is text.last_hidden_state
    assert list(text) == ["last_hidden_state", "pooler_output"]
    assert not hasattr(text, "latent_dist")


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(
    "kind", [DiagonalGaussianDistribution, OobleckDiagonalGaussianDistribution]
)
def test_distributions_sample_alike(kind: type, deterministic: bool) -> None:
    here = kind(torch.randn(1, 8, 4, 4), deterministic)
    there = through(here)
    assert type(there) is kind
    for name in ("parameters", "mean", "std", "var", "logvar"):
        assert torch.equal(getattr(there, name), getattr(here, name))
    samples = [d.sample(torch.Generator().manual_seed(1)) for d in (here, there)]
    assert torch.equal(*samples)


def test_every_known_kind_exists_in_the_installed_packages() -> None:
    for name in known.KINDS:
        values = [torch.randn(1, 4, 2, 2), False][: len(known.KINDS[name].attributes)]
        if name == "minimax_h3_audio":
            values[1] = values[0]
        made = known.build(name, values)
        assert known.kind_of(made) == name
        assert type(through(made)) is type(made)


def test_a_distribution_brings_the_memory_that_it_has() -> None:
    hollow = IdentityDistribution(torch.zeros(1).expand(100, 100))
    came = through(hollow)
    assert torch.equal(came.parameters, torch.zeros(100, 100))


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
