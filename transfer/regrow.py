"""From a manifest and the bytes of its objects back to the value. Imports torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from transfer import known, manifest, tensors
from transfer.errors import PayloadError
from transfer.flatten import IMAGE_MODES
from transfer.manifest import MAX_DEPTH, Object, Tree
from transfer.record import Record

_ARRAY_DTYPES = frozenset(
    f"{kind}{bits}"
    for kind, sizes in (
        ("int", (8, 16, 32, 64)),
        ("uint", (8, 16, 32, 64)),
        ("float", (16, 32, 64)),
        ("complex", (64, 128)),
        ("bool", ("",)),
    )
    for bits in sizes
)


class Regrower:
    """Builds one value. `data[i]`, the bytes of `objects[i]`, belongs to the value afterwards.

    Tensors that lay on an accelerator go to `device`, if one is given; devices and generators of an
    accelerator become that device's. Raises `PayloadError` on every contradiction.
    """

    def __init__(
        self, objects: list[Object], data: list[torch.Tensor], device: torch.device | None
    ) -> None:
        self._objects = objects
        self._data = data
        self._device = device
        self._made: dict[int, Any] = {}

    def value(self, tree: Tree, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise PayloadError(f"a payload deeper than {MAX_DEPTH}")
        grow = _GROWTHS.get(type(tree))
        return tree if grow is None else grow(self, tree, depth + 1)

    def object(self, index: int) -> Any:
        if not 0 <= index < len(self._objects):
            raise PayloadError(f"object {index} of {len(self._objects)}")
        if index not in self._made:
            described = self._objects[index]
            self._made[index] = _MAKERS[type(described)](self, described, self._data[index])
        return self._made[index]

    def here(self, name: str) -> torch.device:
        """The device of that name, or, if it is an accelerator, the one that is used here."""
        try:
            there = torch.device(name)
        except RuntimeError as error:
            raise PayloadError(f"the device {name!r} is not known here") from error
        return there if there.type in ("cpu", "meta") else self._device or there


def _dict(grower: Regrower, node: manifest.Dict, depth: int) -> dict[Any, Any]:
    made = {key: grower.value(item, depth) for key, item in node.items}
    if len(made) != len(node.items):
        raise PayloadError("a dict with the same key twice")
    return made


def _fields(grower: Regrower, node: manifest.Fields, depth: int) -> Record:
    names = [name for name, _ in node.items]
    if len(set(names)) != len(names) or any(not _is_field(name) for name in names):
        raise PayloadError(f"an output with the fields {names}")
    return Record(**{name: grower.value(item, depth) for name, item in node.items})


def _is_field(name: str) -> bool:
    return name.isidentifier() and not name.startswith("__") and name != "self"


def _known(grower: Regrower, node: manifest.Known, depth: int) -> Any:
    values = [grower.value(item, depth) for item in node.items]
    if any(isinstance(v, torch.Tensor) and tensors.is_hollow(v) for v in values):
        raise PayloadError(f"a {node.kind} of an expanded tensor")
    return known.build(node.kind, values)


def _range(grower: Regrower, node: manifest.Range, depth: int) -> range | slice:
    if node.kind == "slice":
        return slice(node.start, node.stop, node.step)
    if node.start is None or node.stop is None or not node.step:
        raise PayloadError(f"range({node.start}, {node.stop}, {node.step})")
    return range(node.start, node.stop, node.step)


def _size(grower: Regrower, node: manifest.Size, depth: int) -> torch.Size:
    manifest.elements(node.shape)
    return torch.Size(node.shape)


_GROWTHS: dict[type, Callable[[Regrower, Any, int], Any]] = {
    manifest.Ref: lambda grower, node, depth: grower.object(node.index),
    manifest.List: lambda grower, node, depth: [grower.value(item, depth) for item in node.items],
    manifest.Tuple: lambda grower, node, depth: tuple(grower.value(i, depth) for i in node.items),
    manifest.Dict: _dict,
    manifest.Fields: _fields,
    manifest.Known: _known,
    manifest.BigInt: lambda grower, node, depth: int.from_bytes(node.data, "little", signed=True),
    manifest.Size: _size,
    manifest.Dtype: lambda grower, node, depth: tensors.dtype_of(node.name),
    manifest.Device: lambda grower, node, depth: grower.here(node.name),
    manifest.Range: _range,
}


def _tensor(grower: Regrower, node: manifest.Tensor, data: torch.Tensor) -> torch.Tensor:
    return tensors.rebuild(node, data, grower._device)


def _array(grower: Regrower, node: manifest.Array, data: torch.Tensor) -> Any:
    if node.dtype not in _ARRAY_DTYPES or (node.scalar and node.shape):
        raise PayloadError(f"a numpy array of {node.dtype}")
    dtype = np.dtype(node.dtype)
    if manifest.elements(node.shape) * dtype.itemsize != node.nbytes:
        raise PayloadError(f"{node.nbytes} bytes for {node.shape} of {node.dtype}")
    if node.dtype == "bool" and bool((data > 1).any()):
        raise PayloadError("a bool array that holds other values than 0 and 1")
    array = data.numpy().view(dtype).reshape(node.shape)
    return array[()] if node.scalar else array


def _generator(grower: Regrower, node: manifest.Generator, data: torch.Tensor) -> torch.Generator:
    try:
        generator = torch.Generator(grower.here(node.device))
        generator.set_state(data)
    except RuntimeError as error:
        raise PayloadError(f"a generator on {node.device}: {error}") from error
    return generator


def _image(grower: Regrower, node: manifest.Image, data: torch.Tensor) -> Image.Image:
    if node.mode not in IMAGE_MODES or min(node.width, node.height) < 1:
        raise PayloadError(f"a picture of mode {node.mode}, {node.width}x{node.height}")
    bits = 1 if node.mode == "1" else 8 * len(Image.new(node.mode, (1, 1)).tobytes())
    if node.height * -(-node.width * bits // 8) != node.nbytes:
        raise PayloadError(f"{node.nbytes} bytes for {node.width}x{node.height} of {node.mode}")
    return Image.frombytes(node.mode, (node.width, node.height), data.numpy().tobytes())


def _bytes(grower: Regrower, node: manifest.Bytes, data: torch.Tensor) -> bytes:
    return data.numpy().tobytes()


_MAKERS: dict[type, Callable[[Regrower, Any, torch.Tensor], Any]] = {
    manifest.Tensor: _tensor,
    manifest.Array: _array,
    manifest.Generator: _generator,
    manifest.Image: _image,
    manifest.Bytes: _bytes,
}
