"""A short name of a model's contents, the same for everyone who serves it. Imports no torch.

All instances behind one front door must agree on it: an encoder of one model and a denoiser of
another would make pictures of neither.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from roles.split.files.elsewhere import Elsewhere
from roles.split.files.folder import Folder, places
from roles.split.files.lone_file import LoneFile
from roles.split.files.place import Place, header_bytes
from roles.split.program import ModelError

_SAMPLES = 16
_SAMPLE_BYTES = 4096


def fingerprint(folder: Folder) -> str:
    """32 hexadecimal digits.

    Of a folder: its model_index.json, the components' configs, and of each safetensors file that is
    read the header, the size, and a few samples of the weights. Of a hub's model, of which each
    role has only its own files: the commit, and the variant that was asked for. Of a checkpoint in
    a single file: that of the folder with its configs, and the same of the file. And of components
    that come from elsewhere.
    """
    own = _of(folder.path, folder.variant) or _digest(_contents(folder))
    if folder.file is not None:
        own = _digest([("config", own.encode()), ("file", _of_file(folder.file))])
    if not folder.replaced:
        return own
    replaced = [(name, of_component(each)) for name, each in sorted(folder.replaced.items())]
    return _digest((name, digest.encode()) for name, digest in [("", own), *replaced])


def of_component(replaced: Elsewhere) -> str:
    """32 hexadecimal digits of a component that comes from elsewhere."""
    place, kind = replaced.place, replaced.kind
    if replaced.file is not None:
        return _digest([*_configs(place), ("file", _of_file(replaced.file))])
    own = _of(place.path, place.wanted) or _digest(_component(place))
    return _digest([(kind.library, kind.name.encode()), ("", own.encode())])


def _of_file(file: LoneFile) -> bytes:
    """Of one with weights: on a hub its commit and its name, which can be told before it is here;
    else its contents."""
    told = _of(file.path, None)
    if told:
        return told.encode()
    return _sampled(file.path, b"") if file.is_gguf else _weights(file.path)


def _of(path: Path, variant: str | None) -> str | None:
    """Of a folder in a hub's cache: its commit, and where it is in there. None of others."""
    found = re.search(r"/snapshots/([0-9a-f]{40})(/.+)?$", str(path))
    if found is None:
        return None
    told = found[1] + (found[2] or "") + (variant or "")
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _digest(contents: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, content in contents:
        for part in (name.encode(), content):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def _contents(folder: Folder) -> Iterator[tuple[str, bytes]]:
    # without where a modular pipeline was saved: its copies lie elsewhere
    yield folder.index_name, json.dumps(folder.index, sort_keys=True).encode()
    for place in places(folder):
        yield from _component(place, f"{place.path.name}/")


def _component(place: Place, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for name, content in _configs(place):
        yield prefix + name, content
    for path in place.weights():
        yield prefix + path.name, _weights(path)


def _configs(place: Place) -> Iterator[tuple[str, bytes]]:
    for path in sorted(place.path.iterdir()):
        if path.suffix == ".json" and "config" in path.name:
            yield path.name, _normal(path)


def _normal(path: Path) -> bytes:
    """A JSON file without its formatting and the order of its keys."""
    try:
        return json.dumps(json.loads(path.read_bytes()), sort_keys=True).encode()
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from error


def _weights(path: Path) -> bytes:
    """The header and the size of a safetensors file, and samples spread over it. Raises
    ModelError."""
    return _sampled(path, header_bytes(path))


def _sampled(path: Path, header: bytes) -> bytes:
    """`header`: what stands at the start of the file, but for its length."""
    size = path.stat().st_size
    parts = [size.to_bytes(8, "little"), header]
    start = 8 + len(header) if header else 0
    last = size - start - _SAMPLE_BYTES
    with path.open("rb") as file:
        for index in range(_SAMPLES):
            file.seek(start + max(0, last) * index // (_SAMPLES - 1))
            parts.append(file.read(_SAMPLE_BYTES))
    return b"".join(parts)
