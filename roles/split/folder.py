"""A model's folder: model_index.json, one sub-folder per component; on this disk or from a hub.

Imports no torch: leaders read the same folder for the fingerprint.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from roles.split import modular_index
from roles.split.modular_index import MODULAR_INDEX
from roles.split.program import ModelError

INDEX = "model_index.json"
# everything but weights: configs, tokenizers, chat templates
SMALL_FILES = ["*.json", "*.txt", "*.jinja", "*.model", "*.spm", "*.tiktoken"]


@dataclass(frozen=True)
class ComponentEntry:
    """One component as model_index.json names it."""

    name: str
    library: str
    class_name: str


@dataclass(frozen=True)
class Folder:
    """A readable model folder. `name` is what the user called it; `fetch(component)` brings a
    component's weights to this disk, if they are elsewhere."""

    path: Path
    name: str
    fetch: Callable[[str], None] | None = None

    @property
    def index_name(self) -> str:
        """The file that names the pipeline and its components. A pipeline that exists in both ways
        is a classic one."""
        modular = not (self.path / INDEX).exists() and (self.path / MODULAR_INDEX).exists()
        return MODULAR_INDEX if modular else INDEX

    @cached_property
    def written(self) -> dict[str, Any]:
        """The index as it is written. Raises ModelError."""
        name = self.index_name
        try:
            index = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            raise ModelError(f"{self.name} is no model folder: it has no {INDEX}") from None
        except OSError as error:
            raise ModelError(f"{self.name} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ModelError(f"the {name} of {self.name} is no JSON: {error}") from error
        if not isinstance(index, dict) or "_class_name" not in index:
            raise ModelError(f"the {name} of {self.name} names no pipeline (_class_name)")
        return index

    @cached_property
    def index(self) -> dict[str, Any]:
        """The parsed model_index.json; of a modular pipeline the same things. Raises ModelError."""
        return modular_index.as_classic(self.written)

    @property
    def pipeline(self) -> str:
        """The pipeline class's name. Raises ModelError for one of the folder's own making."""
        name = self.index["_class_name"]
        if not isinstance(name, str) or modular_index.brings_code(self.path):
            raise ModelError(f"{self.name} brings its own pipeline code, which is never run")
        return name

    @cached_property
    def components(self) -> list[ComponentEntry]:
        return [
            ComponentEntry(name, *value)
            for name, value in self.index.items()
            if not name.startswith("_") and _is_component(value) and value[0] is not None
        ]

    @property
    def settings(self) -> dict[str, Any]:
        """What model_index.json holds beside components: values for the pipeline's constructor,
        None for components that the model does without."""
        return {
            name: None if _is_component(value) else value
            for name, value in self.index.items()
            if not name.startswith("_") and not (_is_component(value) and value[0] is not None)
        }

    def of(self, entry: ComponentEntry) -> Path:
        """The component's sub-folder. Raises ModelError."""
        name = modular_index.subfolder(self.written, entry.name)
        path = self.path / name
        if not path.is_dir():
            raise ModelError(f"{self.name} has no folder {name}, which its {self.index_name} names")
        return path

    def weights(self, entry: ComponentEntry) -> list[Path]:
        """The component's safetensors files, fetched if need be."""
        found = weights_in(self.of(entry))
        if not found and self.fetch is not None:
            self.fetch(modular_index.subfolder(self.written, entry.name))
            found = weights_in(self.of(entry))
        return found


def weights_in(path: Path) -> list[Path]:
    """The safetensors files of one component's folder."""
    return sorted(path.glob("*.safetensors"))


def find(model: str | os.PathLike[str]) -> Folder:
    """The folder of a path, or of a hub id. Raises ModelError.

    Of a hub's model only the small files come now; each role fetches the weights of its own
    components. HF_HUB_OFFLINE and the rest of the hub's settings hold.
    """
    name = os.fspath(model)
    path = Path(name).expanduser()
    if path.is_dir():
        return Folder(path, name)
    if path.exists():
        raise ModelError(f"{name} is a file; a model is a folder with a {INDEX}")
    if not _may_be_hub_id(name):
        raise ModelError(f"there is no folder {name}")
    return _from_hub(name)


def _from_hub(name: str) -> Folder:
    def fetch(component: str) -> None:
        _snapshot(name, [f"{component}/*.safetensors", f"{component}/*.json"])

    return Folder(_snapshot(name, SMALL_FILES), name, fetch)


def _snapshot(name: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, and seldom needed

    try:
        # variants of the same weights, which loading never reads
        ignored = ["*.fp16.*", "*.bf16.*", "*.non_ema.*", "*.ema.*"]
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=ignored))
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"there is no folder {name}, and the model hub gives no model of that name: {first}"
        ) from error


def _may_be_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) <= 2 and all(part and not part.startswith((".", "~")) for part in parts)


def _is_component(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(part is None or isinstance(part, str) for part in value)
    )


def folders(folder: Folder) -> Iterator[Path]:
    """The sub-folders of the components that exist, in the order of the index."""
    for entry in folder.components:
        path = folder.path / modular_index.subfolder(folder.written, entry.name)
        if path.is_dir():
            yield path
