"""Components that come from another place than the model's: `--component NAME=SOURCE`.

What such a component is, is read from its place: from the model_index.json that it stands beside,
or from its own config. Imports no torch.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roles.split.files.hub import Hub
from roles.split.files.lone_file import LoneFile
from roles.split.files.place import Place
from roles.split.files.source import GGUF, SAFETENSORS, Source
from roles.split.modular.index import INDEX, MODULAR_INDEX, as_classic
from roles.split.program import ModelError

CONFIG = "config.json"
# the files that say of a folder that a component is in it
_CONFIGS = (
    CONFIG,
    "scheduler_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
# tokenizers of any kind call themselves so
_GENERIC = {"PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend"}


@dataclass(frozen=True)
class Kind:
    """A class as model_index.json names it."""

    library: str
    name: str


@dataclass(frozen=True)
class Elsewhere:
    """One component. `told`: from where, for people everywhere, so without a folder of this disk;
    `own`: what the model itself has for it; None: nothing. `file`: a checkpoint with the weights,
    which the config in `place` goes with."""

    name: str
    told: str
    place: Place
    kind: Kind
    own: Kind | None
    file: LoneFile | None = None


def elsewhere(
    name: str, text: str, own: Kind | None, home: Place, variant: str | None
) -> Elsewhere:
    """The component `name` from the place that `text` says. `home`: where the model's own is.
    Raises ModelError."""
    try:
        source = Source.parse(text)
        if source.names_file:
            return _in_file(name, LoneFile.of(source), own, home)
        find = _on_disk if source.path else _on_hub
        place, index = find(source, name, variant)
        kind = _kind(name, place, index, own, home.path)
    except (ValueError, ModelError) as error:
        raise ModelError(f"--component {name}={text}: {error}") from error
    except OSError as error:
        message = f"--component {name}={text}: it cannot be read: {error.strerror}"
        raise ModelError(message) from error
    return Elsewhere(name, _told(source, place), place, kind, own)


def _in_file(name: str, file: LoneFile, own: Kind | None, home: Place) -> Elsewhere:
    if file.path.suffix not in (SAFETENSORS, GGUF):  # others may hold code
        raise ModelError("it is neither a folder nor a safetensors file nor a GGUF file")
    if own is None:
        raise ModelError("the model has no config for what is in the file: name a folder")
    return Elsewhere(name, file.told, home, own, own, file)


def _told(source: Source, place: Place) -> str:
    if place.hub is not None:
        return str(Source(place.hub.id, place.hub.commit, place.inner or None))
    folder = Path(source.place).expanduser()
    inner = place.path.relative_to(folder)
    name = folder.resolve().name
    return f"{name}:{inner}" if inner.parts else name


def _on_disk(source: Source, name: str, variant: str | None) -> tuple[Place, Mapping[str, Any]]:
    path = source.path
    assert path is not None
    if not _has_component([each.name for each in path.iterdir()]) and (path / name).is_dir():
        path = path / name
    return Place(path, wanted=variant), _index(path.parent)


def _on_hub(source: Source, name: str, variant: str | None) -> tuple[Place, Mapping[str, Any]]:
    hub = Hub.at(source)
    inner = source.subfolder or ("" if _has_component(hub.within("")) else name)
    place = Place(hub.path / inner, hub, inner, variant)
    hub.bring(place.small)
    above = place.path.parent if inner else place.path
    return place, _index(above)


def _has_component(names: list[str]) -> bool:
    return any(config in names for config in _CONFIGS)


def _index(folder: Path) -> Mapping[str, Any]:
    """What is said of the components in a folder, if anything is."""
    for name in (INDEX, MODULAR_INDEX):
        if (folder / name).is_file():
            return as_classic(_read(folder / name))
    return {}


def _kind(name: str, place: Place, index: Mapping[str, Any], own: Kind | None, home: Path) -> Kind:
    """Raises ModelError."""
    match index.get(place.path.name):
        case [str(library), str(kind)]:
            return Kind(library, kind)
    wanted = own.name if own else name
    if re.search("tokenizer", wanted, re.IGNORECASE):
        return _tokenizer(_config(place, "tokenizer_config.json"), own)
    if own is not None and re.search("processor|extractor", wanted, re.IGNORECASE):
        return own
    config = _config(place, CONFIG, "scheduler_config.json")
    if isinstance(named := config.get("_class_name"), str):
        return Kind("diffusers", named)
    if own is None or own.library == "diffusers" or _other_family(config, home):
        return Kind("transformers", _architecture(config))
    return own


def _config(place: Place, *names: str) -> dict[str, Any]:
    """The first of these files that is there. Raises ModelError."""
    for name in names:
        if (place.path / name).is_file():
            return _read(place.path / name)
    raise ModelError(f"there is no such component in it: it has no {names[0]}")


def _tokenizer(config: Mapping[str, Any], own: Kind | None) -> Kind:
    named = config.get("tokenizer_class")
    if not isinstance(named, str) or (own is not None and named in _GENERIC):
        named = own.name if own else "AutoTokenizer"
    if own is not None and named.removesuffix("Fast") == own.name.removesuffix("Fast"):
        return own
    return Kind("transformers", named)


def _other_family(config: Mapping[str, Any], home: Path) -> bool:
    """Whether the model's own component is of another family of models. A text encoder's name
    begins with that of the model which it was taken from: clip, clip_text_model."""
    if not (home / CONFIG).is_file():
        return False
    here, there = config.get("model_type"), _read(home / CONFIG).get("model_type")
    if not (isinstance(here, str) and isinstance(there, str)):
        return False
    return not (here.startswith(there) or there.startswith(here))


def _architecture(config: Mapping[str, Any]) -> str:
    match config.get("architectures"):
        case [str(name), *_]:
            return name
    raise ModelError("its config says no class (_class_name or architectures)")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"its {path.name} is no JSON: {error}") from error
    return found if isinstance(found, dict) else {}
