"""How many bytes a model's weights take in memory, read from its files without loading them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from roles.split.files.source import GGUF, Source

NONE: Mapping[str, str] = {}
_LENGTH_BYTES = 8  # before a safetensors file's header
_MAX_HEADER = 100 << 20
_FLOAT32, _HALF = 4, 2
_OTHERS = ("*.bin", "*.pt", "*.pth")
_DIRECTIONS = 3  # slots to receive into, and to send from as encoder and as denoiser
_PROCESSES = 1 << 30  # Python and torch in a leader and a rank, and what one request works with
_WORK = 0.5  # of the weights: what a forward and a decode hold meanwhile


def whole_bytes(
    model: str, dtype: str, slots: int, components: Mapping[str, str] = NONE
) -> int | None:
    """Bytes of memory that an instance with all roles takes, with `slots` bytes of slots for each
    direction; None if the weights are not here to be counted. `components`: those that come from
    elsewhere."""
    weights = weights_bytes(model, dtype, components)
    if weights is None:
        return None
    return int(weights * (1 + _WORK)) + _DIRECTIONS * slots + _PROCESSES


def weights_bytes(model: str, dtype: str, components: Mapping[str, str] = NONE) -> int | None:
    """Bytes of all components together, loaded as --dtype says; None if the folder is not here.

    Numbers are counted, not bytes on the disk: with `auto` most are loaded as float32, whatever
    they are stored as. Files of other formats count as they are.
    """
    folder = Path(model)
    if not folder.exists():
        return None
    size = _HALF if dtype in ("bfloat16", "float16") else _FLOAT32
    total = 0 if folder.is_dir() else _numbers(folder) * size
    inner = folder.iterdir() if folder.is_dir() else ()
    for component in sorted(each for each in inner if each.is_dir()):
        if component.name not in components:
            total += _component(component, size)
    for name, text in components.items():
        path = Source.parse(text).path
        if path is None:
            return None
        if path.is_file():
            total += _file(path, size)
        else:
            total += _component(path / name if (path / name).is_dir() else path, size)
    return total


def _file(path: Path, size: int) -> int:
    """Quantized weights stay as they are."""
    return path.stat().st_size if path.suffix == GGUF else _numbers(path) * size


def _component(folder: Path, size: int) -> int:
    files = [file for file in folder.glob("*.safetensors") if file.is_file()]
    plain = [file for file in files if not _is_variant(file.name)] or files
    if plain:
        return sum(_numbers(file) for file in plain) * size
    others = {file for pattern in _OTHERS for file in folder.glob(pattern)}
    return sum(file.stat().st_size for file in others)


def _is_variant(name: str) -> bool:
    """model.fp16.safetensors: a second copy of what is there already."""
    parts = name.removesuffix(".safetensors").split(".")
    return len(parts) > 1


def _numbers(file: Path) -> int:
    """How many numbers the tensors of a safetensors file hold; 0 if it cannot be read, which is
    for the ranks to say."""
    try:
        with file.open("rb") as stream:
            header = _header(stream)
        shapes = [each["shape"] for each in header.values() if "shape" in each]
        return sum(math.prod(map(int, shape)) for shape in shapes)
    except (OSError, ValueError, TypeError):
        return 0


def _header(stream: BinaryIO) -> dict[str, Any]:
    """{NAME: {"dtype", "shape", …}}, and "__metadata__" with words."""
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(stream.read(length))
    return header if isinstance(header, dict) else {}
