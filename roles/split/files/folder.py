"""A model's folder: model_index.json, one sub-folder per component; on this disk or from a hub.

Imports no torch: leaders read the same folder for the fingerprint.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from roles.origins import NOTHING, Origins
from roles.split.files import variants
from roles.split.files.elsewhere import Elsewhere, Kind, elsewhere
from roles.split.files.hub import Hub
from roles.split.files.lone_file import LoneFile
from roles.split.files.place import Place
from roles.split.files.source import SAFETENSORS, Source
from roles.split.modular import index as modular_index
from roles.split.modular.index import INDEX, MODULAR_INDEX
from roles.split.program import ModelError


@dataclass(frozen=True)
class ComponentEntry:
    """One component as model_index.json names it."""

    name: str
    library: str
    class_name: str


@dataclass(frozen=True)
class Folder:
    """A readable model folder. `name` is what the user called it; `hub`: the commit that it is a
    copy of, if it is one; `variant`: of the weights, where components have it; `replaced`: the
    components that come from elsewhere. `file`: a checkpoint with the weights, which only the
    configs of this folder go with, as far as it holds them."""

    path: Path
    name: str
    hub: Hub | None = None
    variant: str | None = None
    replaced: Mapping[str, Elsewhere] = field(default_factory=dict)
    file: LoneFile | None = None

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
        kinds = {name: self._kind(name) for name in self.slots}
        return [ComponentEntry(n, kind.library, kind.name) for n, kind in kinds.items() if kind]

    @property
    def slots(self) -> list[str]:
        """The names of all components that the model can have, whether it does or not."""
        names = (name for name in self.index if not name.startswith("_"))
        return [name for name in names if _is_component(self.index[name])]

    def own_kind(self, name: str) -> Kind | None:
        """What the model itself has for a component; None: nothing."""
        library, kind = self.index[name]
        if self.file is not None and name in LEFT_OUT:
            return None
        return Kind(library, kind) if library is not None else None

    def _kind(self, name: str) -> Kind | None:
        replaced = self.replaced.get(name)
        return replaced.kind if replaced else self.own_kind(name)

    @property
    def settings(self) -> dict[str, Any]:
        """What model_index.json holds beside components: values for the pipeline's constructor,
        None for components that the model does without."""
        return {
            name: None if _is_component(value) else value
            for name, value in self.index.items()
            if not name.startswith("_") and not (_is_component(value) and self._kind(name))
        }

    def file_of(self, entry: ComponentEntry) -> LoneFile | None:
        """The checkpoint that may hold the component."""
        replaced = self.replaced.get(entry.name)
        return replaced.file if replaced else self.file

    def place(self, entry: ComponentEntry) -> Place:
        """Where the component's files are."""
        if replaced := self.replaced.get(entry.name):
            return replaced.place
        return self.own_place(entry.name)

    def own_place(self, name: str) -> Place:
        """Where the model itself has a component, if it has it."""
        inner = modular_index.subfolder(self.written, name)
        return Place(self.path / inner, self.hub, inner, self.variant)

    def of(self, entry: ComponentEntry) -> Path:
        """The component's sub-folder. Raises ModelError."""
        place = self.place(entry)
        if not place.path.is_dir():
            raise ModelError(
                f"{self.name} has no folder {place.inner}, which its {self.index_name} names"
            )
        return place.path

    def weights(self, entry: ComponentEntry) -> list[Path]:
        """The component's safetensors files, fetched if need be. Raises ModelError."""
        self.of(entry)
        return self.place(entry).weights()


# what `from_single_file` leaves out
LEFT_OUT = ("safety_checker",)


def weights_in(path: Path) -> list[Path]:
    """The safetensors files of one component's folder."""
    return sorted(path.glob("*.safetensors"))


def find(model: str | os.PathLike[str], origins: Origins = NOTHING) -> Folder:
    """The folder of a path, or of a hub id. Raises ModelError.

    Of a hub's model only the small files come now; each role fetches the weights of its own
    components.
    """
    try:
        source = Source.parse(model)
    except ValueError as error:
        raise ModelError(str(error)) from error
    if source.names_file:
        return _from_file(source, origins)
    path = source.path
    if origins.config is not None:
        raise ModelError(f"--model-config is for a model in a single file, and not for {source}")
    if path is not None:
        folder = _with(origins, Folder(path, str(source), None, origins.variant))
    else:
        folder = _from_hub(source, origins)
    _check_variant(folder)
    return folder


def _from_file(source: Source, origins: Origins) -> Folder:
    """The folder of the pipeline's configs, with a file for the weights."""
    file = LoneFile.of(source)
    if file.path.suffix != SAFETENSORS:
        raise ModelError(f"{source} is neither a folder with a {INDEX} nor a safetensors file")
    told = origins.config
    if told is None:
        from roles.split.files.single_file import usual_config  # which takes torch

        told = usual_config(file)
    beside = Origins(variant=origins.variant)
    try:
        folder = dataclasses.replace(find(told, beside), name=str(source), file=file)
    except ModelError as error:
        raise ModelError(
            f"{source}: the pipeline that it is of, --model-config {told}: {error}"
        ) from error
    if folder.index_name == MODULAR_INDEX:
        raise ModelError(f"{source}: diffusers reads no {folder.pipeline} from a single file")
    return _with(origins, folder)


def _with(origins: Origins, folder: Folder) -> Folder:
    """The folder with components from elsewhere."""
    replaced = {}
    for name, text in sorted(origins.components.items()):
        if name not in folder.slots:
            known = ", ".join(sorted(folder.slots))
            raise ModelError(f"{folder.name} has no component {name}; it has {known}")
        home = folder.own_place(name)
        replaced[name] = elsewhere(name, text, folder.own_kind(name), home, origins.variant)
    return dataclasses.replace(folder, replaced=replaced) if replaced else folder


def _from_hub(source: Source, origins: Origins) -> Folder:
    if source.subfolder:
        raise ModelError(
            f"{source}: a model is a whole repository or a safetensors file of it, and no folder "
            "in one"
        )
    hub = Hub.at(source)
    folder = _with(origins, Folder(hub.path, source.place, hub, origins.variant))
    own = [entry.name for entry in folder.components if entry.name not in folder.replaced]
    own += [name for name, each in folder.replaced.items() if each.file]  # whose configs hold
    hub.bring(file for name in own for file in folder.own_place(name).small)
    return folder


def _check_variant(folder: Folder) -> None:
    """A variant that no component has is a mistake."""
    if folder.variant is None:
        return
    names = [name for entry in folder.components for name in folder.place(entry).names]
    there = variants.variants(names)
    if folder.variant not in there:
        others = f"; it has {', '.join(there)}" if there else ", nor any other"
        raise ModelError(f"{folder.name} has no weights of the variant {folder.variant}{others}")


def _is_component(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(part is None or isinstance(part, str) for part in value)
    )


def places(folder: Folder) -> Iterator[Place]:
    """Of the model's own components that exist, in the order of the index."""
    names = (entry.name for entry in folder.components if entry.name not in folder.replaced)
    return (place for name in names if (place := folder.own_place(name)).path.is_dir())
