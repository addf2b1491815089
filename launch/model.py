"""Whether a --model can be a model, before any process is started for it."""

import json
from pathlib import Path

from launch.errors import LaunchError
from roles.split.files.source import SAFETENSORS, Source

INDEX = "model_index.json"
MODULAR_INDEX = "modular_model_index.json"


def settle(model: str) -> str:
    """As `check_model`; of a hub's model with the commit that is meant, so that all processes have
    the same one, and go on having it. Raises `LaunchError`."""
    return pinned(check_model(model))


def check_model(model: str) -> str:
    """The absolute path of a folder or a checkpoint, or the hub id as it is. Raises `LaunchError`
    for what is missing or holds no pipeline. Whether its weights are whole is seen when a rank
    loads them."""
    try:
        source = Source.parse(model)
    except ValueError as error:
        message = str(error).replace("there is no folder", "there is no model folder")
        raise LaunchError(message) from error
    folder = source.path
    if folder is None:
        if source.subfolder and not source.subfolder.endswith(SAFETENSORS):
            raise LaunchError(
                f"{model}: a model is a whole repository or a safetensors file of it, and nothing "
                "else in there"
            )
        return str(source)
    if folder.is_file():
        if folder.suffix != SAFETENSORS:
            raise LaunchError(f"{model} is neither a folder nor a safetensors file")
        return str(source.absolute)
    indexes = [folder / name for name in (INDEX, MODULAR_INDEX)]
    index = next((each for each in indexes if each.is_file()), None)
    if index is None:
        raise LaunchError(f"{model} is no diffusers pipeline: it has no {INDEX}")
    _check_index(index)
    return str(folder.resolve())


def pinned(text: str) -> str:
    """A source with its hub's commit. Raises `LaunchError`."""
    source = Source.parse(text)
    if source.path is not None:
        return text
    from roles.split.files.hub import resolve
    from roles.split.program import ModelError

    try:
        return str(Source(source.place, resolve(source), source.subfolder))
    except ModelError as error:
        raise LaunchError(str(error)) from error


def _check_index(index: Path) -> None:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LaunchError(f"cannot read {index}: {error}") from error
    if not isinstance(content, dict) or "_class_name" not in content:
        raise LaunchError(f"{index} names no pipeline class (_class_name)")
