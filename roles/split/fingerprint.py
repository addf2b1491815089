"""A short name of a model's contents, the same for everyone who serves it. Imports no torch.

All instances behind one front door must agree on it: an encoder of one model and a denoiser of
another would make pictures of neither.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from roles.split.folder import Folder, places
from roles.split.place import Place, header_bytes
from roles.split.program import ModelError

_SAMPLES = 16
_SAMPLE_BYTES = 4096


def fingerprint(folder: Folder) -> str:
    """32 hexadecimal digits.

    Of a folder: its model_index.json, the components' configs, and of each safetensors file that is
    read the header, the size, and a few samples of the weights. Of a hub's model, of which each
    role has only its own files: the commit, and the variant that was asked for.
    """
    digest = hashlib.sha256()
    commit = re.search(r"/snapshots/([0-9a-f]{40})$", str(folder.path))
    if commit:
        digest.update(commit[1].encode())
        digest.update((folder.variant or "").encode())
    else:
        for name, content in _contents(folder):
            for part in (name.encode(), content):
                digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def _contents(folder: Folder) -> Iterator[tuple[str, bytes]]:
    # without where a modular pipeline was saved: its copies lie elsewhere
    yield folder.index_name, json.dumps(folder.index, sort_keys=True).encode()
    for place in places(folder):
        yield from _component(place)


def _component(place: Place) -> Iterator[tuple[str, bytes]]:
    weights = place.weights()
    for path in sorted(place.path.iterdir()):
        name = f"{place.path.name}/{path.name}"
        if path.suffix == ".json" and "config" in path.name:
            yield name, _normal(path)
        elif path in weights:
            yield name, _weights(path)


def _normal(path: Path) -> bytes:
    """A JSON file without its formatting and the order of its keys."""
    try:
        return json.dumps(json.loads(path.read_bytes()), sort_keys=True).encode()
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from error


def _weights(path: Path) -> bytes:
    """The header and the size of a safetensors file, and samples spread over it. Raises
    ModelError."""
    size, header = path.stat().st_size, header_bytes(path)
    parts = [size.to_bytes(8, "little"), header]
    start = 8 + len(header)
    last = size - start - _SAMPLE_BYTES
    with path.open("rb") as file:
        for index in range(_SAMPLES):
            file.seek(start + max(0, last) * index // (_SAMPLES - 1))
            parts.append(file.read(_SAMPLE_BYTES))
    return b"".join(parts)
