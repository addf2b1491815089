"""Random payload values, and what it means that two of them are the same."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from transfer.record import Record
from transfer.tensors import DTYPES


def same(a: Any, b: Any) -> bool:
    """Equal in kind, in every bit, and in memory layout."""
    if isinstance(a, Record) or isinstance(b, Record):
        return isinstance(a, Record) and isinstance(b, Record) and same(vars(a), vars(b))
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return same_tensor(a, b)
    if isinstance(a, torch.Generator):
        return a.device == b.device and bool(torch.equal(a.get_state(), b.get_state()))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Image.Image):
        return (a.mode, a.size, a.tobytes()) == (b.mode, b.size, b.tobytes())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        keys = zip(a, b, strict=False)
        return len(a) == len(b) and all(same(k, j) and same(a[k], b[j]) for k, j in keys)
    return repr(a) == repr(b)  # also for nan and -0.0


def same_tensor(a: torch.Tensor, b: torch.Tensor) -> bool:
    shapes = a.dtype == b.dtype and a.shape == b.shape
    return shapes and a.device == b.device and raw(a) == raw(b)


def raw(tensor: torch.Tensor) -> bytes:
    """The elements' bytes in row-major order, of any dtype."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.numel() == 0:
        return b""
    rows = plain.contiguous().as_strided((plain.numel(),), (1,))
    return rows.view(torch.uint8).numpy().tobytes()


def random_tensor(
    dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0, order: tuple[int, ...] | None = None
) -> torch.Tensor:
    """Random bits (0 and 1 for bool). `order`: the dimensions from slowest to fastest in memory."""
    generator = torch.Generator().manual_seed(seed)
    order = order or tuple(range(len(shape)))
    laid = [shape[i] for i in order]
    count = int(np.prod(laid)) if laid else 1
    top = 2 if dtype == torch.bool else 256
    size = count * dtype.itemsize
    data = torch.randint(0, top, (size,), dtype=torch.uint8, generator=generator)
    back = [order.index(i) for i in range(len(shape))]
    return data.view(dtype).reshape(laid).permute(back)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
keys = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=5)
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(shapes)
    order = tuple(draw(st.permutations(range(len(shape)))))
    dtype = DTYPES[draw(st.sampled_from(sorted(set(DTYPES) - {"complex32"})))]
    tensor = random_tensor(dtype, shape, draw(st.integers(0, 1000)), order)
    if tensor.numel() and draw(st.booleans()):
        if draw(st.booleans()):
            return tensor.as_strided((1,) * len(shape), (0,) * len(shape)).expand(shape)
        return tensor[..., :1] if shape else tensor
    return tensor


leaves = (
    scalars
    | st.binary(max_size=100)
    | tensors()
    | shapes.map(torch.Size)
    | st.sampled_from(sorted(DTYPES)).map(DTYPES.__getitem__)
    | st.sampled_from(["cpu", "cuda:1", "meta"]).map(torch.device)
    | st.builds(slice, st.none() | st.integers(-5, 5), st.integers(-5, 5), st.none())
    | st.builds(range, st.integers(-5, 5), st.integers(-5, 5), st.sampled_from([1, -2]))
    | st.integers(0, 9).map(lambda seed: torch.Generator().manual_seed(seed))
    | shapes.map(lambda shape: np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    | st.sampled_from(["L", "RGB", "1"]).map(lambda mode: Image.new(mode, (7, 3), 1))
)

trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["sample", "latents", "x"]), inner, max_size=3).map(
            lambda fields: Record(**fields)
        )
    ),
    max_leaves=8,
)
