"""Tensors come out as they went in, and cost as many bytes as they have."""

import msgspec
import numpy as np
import pytest
import torch

from tests.support.payloads import packed, through
from tests.support.trees import random_tensor, same
from transfer import manifest
from transfer.payload import pack, unpack
from transfer.tensors import DTYPES

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


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
