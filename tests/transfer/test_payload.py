"""Payloads: every value comes out as it went in."""

import collections
import math

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution
from diffusers.models.autoencoders.vae import (
    DecoderOutput,
    DiagonalGaussianDistribution,
    IdentityDistribution,
)
from PIL import Image
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tests.support.payloads import through
from tests.support.trees import same
from transfer import known
from transfer.record import Record

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


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
