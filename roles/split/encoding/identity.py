"""What a value is, by its contents: equal identities mean that code cannot tell the values apart.

For deciding that a computation is one that was made before. So anything that is not understood has
no identity at all, rather than one that might be another value's too.
"""

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from transfer.flatten import IMAGE_MODES

MAX_DEPTH = 32

_NUMBER = struct.Struct("<q")
_FLOAT = struct.Struct("<d")
_ARRAYS = "biufc"


class Unidentified(Exception):
    """A value that cannot be compared by its contents, such as a function or a generator."""


def identity(*values: Any) -> bytes:
    """32 bytes that stand for these values.

    Plain values, text and bytes; lists, tuples, dicts (in their order); torch tensors with dtype,
    device, shape, strides and contents; numpy arrays; pictures. Raises `Unidentified`.
    """
    digest = hashlib.blake2b(digest_size=32)
    _feed(digest.update, values, 0)
    return digest.digest()


def _feed(put: Callable[[Any], None], value: Any, depth: int) -> None:
    """Every part says what it is and how long it is, so no two values give the same bytes."""
    if depth > MAX_DEPTH:
        raise Unidentified(f"values within values, more than {MAX_DEPTH} deep")
    kind = type(value)
    if value is None or kind is bool or kind is int or isinstance(value, _NAMED):
        _tagged(put, kind, repr(value).encode())
    elif kind is float:
        _tagged(put, kind, _FLOAT.pack(value))
    elif kind is str:
        _tagged(put, kind, value.encode("utf-8", "surrogatepass"))
    elif kind is bytes:
        _tagged(put, kind, value)
    elif isinstance(value, list | tuple):
        _tagged(put, kind, _NUMBER.pack(len(value)))
        for each in value:
            _feed(put, each, depth + 1)
    elif isinstance(value, dict):  # configurations and outputs of models too
        _tagged(put, kind, _NUMBER.pack(len(value)))
        for name, each in value.items():
            _feed(put, name, depth + 1)
            _feed(put, each, depth + 1)
    else:
        _feed_data(put, value)


def _feed_data(put: Callable[[Any], None], value: Any) -> None:
    if type(value) in (torch.Tensor, torch.nn.Parameter) and value.layout == torch.strided:
        about = f"{value.dtype} {value.device} {list(value.shape)} {value.stride()}"
        _tagged(put, torch.Tensor, about.encode())
        put(_bytes_of(value))
    elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _ARRAYS:
        array = np.ascontiguousarray(value)
        _tagged(put, type(value), f"{array.dtype} {list(value.shape)}".encode())
        put(array.reshape(-1).view(np.uint8).data)
    elif isinstance(value, Image.Image):
        if value.mode not in IMAGE_MODES:
            raise Unidentified(f"a picture of mode {value.mode}")
        _tagged(put, Image.Image, f"{value.mode} {value.size} {value.info}".encode())
        put(value.tobytes())
    else:
        raise Unidentified(f"a {type(value).__name__}")


def _tagged(put: Callable[[Any], None], kind: type, data: bytes) -> None:
    name = f"{kind.__module__}.{kind.__qualname__}".encode()
    put(_NUMBER.pack(len(name)) + name + _NUMBER.pack(len(data)) + data)


def _bytes_of(tensor: torch.Tensor) -> Any:
    if tensor.device.type == "meta":
        raise Unidentified("a tensor without data")
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data


_NAMED = (torch.dtype, torch.device, torch.Size)
