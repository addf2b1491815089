"""Whether a --model can be a model, before any process is started for it."""

import json
from pathlib import Path

from launch.errors import LaunchError

INDEX = "model_index.json"
MODULAR_INDEX = "modular_model_index.json"


def check_model(model: str) -> str:
    """The folder's absolute path, or the hub id as it is. Raises `LaunchError` for a folder that is
    missing or holds no pipeline. Whether its weights are whole is seen when a rank loads them."""
    folder = Path(model).expanduser()
    if not folder.exists():
        if _could_be_hub_id(model):
            return model
        raise LaunchError(f"there is no model folder {model}")
    indexes = [folder / name for name in (INDEX, MODULAR_INDEX)]
    index = next((each for each in indexes if each.is_file()), None)
    if index is None:
        raise LaunchError(f"{model} is no diffusers pipeline: it has no {INDEX}")
    _check_index(index)
    return str(folder.resolve())


def _could_be_hub_id(model: str) -> bool:
    """owner/name, as a model hub writes it; everything else is meant as a path."""
    parts = model.split("/")
    return len(parts) == 2 and all(parts) and not model.startswith((".", "~"))


def _check_index(index: Path) -> None:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LaunchError(f"cannot read {index}: {error}") from error
    if not isinstance(content, dict) or "_class_name" not in content:
        raise LaunchError(f"{index} names no pipeline class (_class_name)")
