"""modular_model_index.json: what it says, in the form of a model_index.json. Imports no torch.

A component stands there as `[library, class, loading]`; `loading` holds its sub-folder, where it
lies if that is another repository, and once more its class (`type_hint`), since a pipeline that was
saved before its components were loaded knows no others.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

INDEX = "model_index.json"
MODULAR_INDEX = "modular_model_index.json"
# a folder with pipeline code of its own has its blocks described here
BLOCKS = "modular_config.json"
_LOADING = 3


def is_loading(value: Any) -> bool:
    """Whether an entry of the index is a component."""
    return isinstance(value, list) and len(value) == _LOADING and isinstance(value[2], dict)


def as_classic(index: Mapping[str, Any]) -> dict[str, Any]:
    """The same index with `[library, class]` for each component: `[None, None]` for those that the
    pipeline does without, because nothing says from where they come."""
    return {name: _entry(value) if is_loading(value) else value for name, value in index.items()}


def _entry(value: list[Any]) -> list[Any]:
    library, kind, loading = value
    if not loading.get("pretrained_model_name_or_path"):
        return [None, None]
    hinted_library, hinted_kind = loading.get("type_hint") or (None, None)
    return [library or hinted_library, kind or hinted_kind]


def subfolder(index: Mapping[str, Any], name: str) -> str:
    """The sub-folder of the component of that name."""
    value = index.get(name)
    found = value[2].get("subfolder") if isinstance(value, list) and is_loading(value) else None
    return found or name


def brings_code(path: Path) -> bool:
    """Whether a folder has pipeline code of its own."""
    return (path / BLOCKS).is_file()
