"""From a value to its manifest and the bytes of its objects. Imports torch."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from transfer import known, manifest
from transfer.errors import PayloadError
from transfer.manifest import MAX_DEPTH, Key, Object, Tree
from transfer.record import Record
from transfer.tensors import NAMES, describe, is_hollow

Data = NDArray[np.uint8]

MAX_NODES = 1 << 18

# outputs of models, recognised by the class that all of them derive from
_OUTPUTS = {
    ("diffusers.utils.outputs", "BaseOutput"),
    ("transformers.utils.generic", "ModelOutput"),
}
_ARRAY_KINDS = "biufc"
_PLAIN = (type(None), bool, int, float, str)
_KEYS = _PLAIN
# of PIL: the modes whose raw bytes are the whole picture
IMAGE_MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F")


class Flattener:
    """Walks one value. `objects` and `data` grow alike: a description and its bytes.

    An object that occurs twice is sent once and arrives as one object: two calls that share a
    generator go on sharing it. Raises `PayloadError` with the type and the path of what it does
    not know (`$.encode_prompt[0].hook: a function cannot cross`).
    """

    def __init__(self) -> None:
        self.objects: list[Object] = []
        self.data: list[Data] = []
        self._seen: dict[int, tuple[int, object]] = {}  # id → number, and the object kept alive
        self._nodes = 0

    def tree(self, value: object, where: str = "$", depth: int = 0) -> Tree:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise PayloadError(f"{where}: deeper than {MAX_DEPTH} or more than {MAX_NODES} values")
        if type(value) in _PLAIN:
            return _plain(value)
        walk = _WALKS.get(type(value)) or _walk_of(value)
        if walk is None:
            raise PayloadError(f"{where}: a {_name(value)} cannot cross")
        return walk(self, value, where, depth + 1)

    def many(self, values: Iterable[object], where: str, depth: int) -> list[Tree]:
        return [self.tree(value, f"{where}[{i}]", depth) for i, value in enumerate(values)]

    def named(self, items: Iterable[tuple[str, Any]], where: str, depth: int) -> list[Any]:
        return [(name, self.tree(value, f"{where}.{name}", depth)) for name, value in items]

    def object(self, value: object, describe: Callable[[], tuple[Object, Data]]) -> manifest.Ref:
        if id(value) not in self._seen:
            described, data = describe()
            self._seen[id(value)] = (len(self.objects), value)
            self.objects.append(described)
            self.data.append(data)
        return manifest.Ref(self._seen[id(value)][0])


Walk = Callable[[Flattener, Any, str, int], Tree]


def _plain(value: Any) -> Tree:
    if type(value) is int and not -(1 << 63) <= value < 1 << 64:
        return manifest.BigInt(value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    return value  # type: ignore[no-any-return]


def _list(flat: Flattener, value: list[Any], where: str, depth: int) -> Tree:
    return manifest.List(flat.many(value, where, depth))


def _tuple(flat: Flattener, value: tuple[Any, ...], where: str, depth: int) -> Tree:
    return manifest.Tuple(flat.many(value, where, depth))


def _dict(flat: Flattener, value: Mapping[Any, Any], where: str, depth: int) -> Tree:
    items: list[tuple[Key, Tree]] = []
    for key, item in value.items():
        if type(key) not in _KEYS or (type(key) is int and not -(1 << 63) <= key < 1 << 64):
            raise PayloadError(f"{where}: a {_name(key)} as a key cannot cross")
        items.append((key, flat.tree(item, f"{where}[{key!r}]", depth)))
    return manifest.Dict(items)


def _output(flat: Flattener, value: Any, where: str, depth: int) -> Tree:
    names = [*dict.fromkeys((*getattr(value, "__dataclass_fields__", ()), *value))]
    return manifest.Fields(flat.named(((n, getattr(value, n)) for n in names), where, depth))


def _record(flat: Flattener, value: Record, where: str, depth: int) -> Tree:
    return manifest.Fields(flat.named(vars(value).items(), where, depth))


def _known(flat: Flattener, value: object, where: str, depth: int) -> Tree:
    kind = known.kind_of(value) or ""
    values = [_filled(item) for item in known.attributes(kind, value)]
    return manifest.Known(kind, flat.many(values, f"{where}:{kind}", depth))


def _filled(value: Any) -> Any:
    """The receiver computes on it at once, so it has to bring the memory it pretends to have."""
    hollow = isinstance(value, torch.Tensor) and is_hollow(value)
    return value.contiguous() if hollow else value


def _tensor(flat: Flattener, value: torch.Tensor, where: str, depth: int) -> Tree:
    def bytes_of() -> tuple[Object, Data]:
        described, data = describe(value, where)
        return described, data.numpy()

    return flat.object(value, bytes_of)


def _array(flat: Flattener, value: Any, where: str, depth: int) -> Tree:
    array = np.asarray(value)
    if array.dtype.kind not in _ARRAY_KINDS or array.dtype.itemsize > 16:
        raise PayloadError(f"{where}: a numpy array of {array.dtype}")

    def bytes_of() -> tuple[Object, Data]:
        native = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
        described = manifest.Array(
            nbytes=native.nbytes,
            dtype=native.dtype.name,
            shape=list(native.shape),
            scalar=not isinstance(value, np.ndarray),
        )
        return described, native.reshape(-1).view(np.uint8)

    return flat.object(value, bytes_of)


def _generator(flat: Flattener, value: torch.Generator, where: str, depth: int) -> Tree:
    def bytes_of() -> tuple[Object, Data]:
        state = value.get_state().numpy()
        return manifest.Generator(nbytes=state.nbytes, device=str(value.device)), state

    return flat.object(value, bytes_of)


def _image(flat: Flattener, value: Image.Image, where: str, depth: int) -> Tree:
    if value.mode not in IMAGE_MODES:
        raise PayloadError(f"{where}: a picture of mode {value.mode}, convert it to RGB")

    def bytes_of() -> tuple[Object, Data]:
        data = value.tobytes()
        described = manifest.Image(len(data), value.mode, value.width, value.height)
        return described, np.frombuffer(data, np.uint8)

    return flat.object(value, bytes_of)


def _bytes(flat: Flattener, value: bytes, where: str, depth: int) -> Tree:
    return flat.object(value, lambda: (manifest.Bytes(len(value)), np.frombuffer(value, np.uint8)))


def _range(flat: Flattener, value: Any, where: str, depth: int) -> Tree:
    steps = (value.start, value.stop, value.step)
    if any(type(step) not in (int, type(None)) or abs(step or 0) >= 1 << 63 for step in steps):
        raise PayloadError(f"{where}: {value!r} cannot cross")
    return manifest.Range("range" if type(value) is range else "slice", *steps)


def _dtype(flat: Flattener, value: torch.dtype, where: str, depth: int) -> Tree:
    if value not in NAMES:
        raise PayloadError(f"{where}: the dtype {value} cannot cross")
    return manifest.Dtype(NAMES[value])


_WALKS: dict[type, Walk] = {
    list: _list,
    tuple: _tuple,
    dict: _dict,
    bytes: _bytes,
    range: _range,
    slice: _range,
    Record: _record,
    torch.Tensor: _tensor,
    torch.nn.Parameter: _tensor,
    torch.Generator: _generator,
    torch.dtype: _dtype,
    torch.Size: lambda flat, value, where, depth: manifest.Size(list(value)),
    torch.device: lambda flat, value, where, depth: manifest.Device(str(value)),
}


def _walk_of(value: object) -> Walk | None:
    """How to walk what is no exact type of the table, but is one by its ancestry."""
    if any((base.__module__, base.__name__) in _OUTPUTS for base in type(value).__mro__):
        return _output
    if known.kind_of(value):
        return _known
    kinds: list[tuple[Any, Walk]] = [
        (np.generic, _array),
        (np.ndarray, _array),
        (torch.Tensor, _tensor),
        (torch.Generator, _generator),
        (Image.Image, _image),
        (tuple, _tuple),
        (dict, _dict),
    ]
    return next((walk for kind, walk in kinds if isinstance(value, kind)), None)


def _name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
