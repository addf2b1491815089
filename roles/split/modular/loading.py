"""A folder with a modular_model_index.json to a `ModularProgram` for some roles."""

import logging
from collections.abc import Collection, Mapping
from typing import Any, cast

import diffusers
from diffusers import ModularPipeline

from roles.split.files.components import Loader, Part, brief
from roles.split.files.folder import Folder
from roles.split.modular import stages
from roles.split.modular.index import MODULAR_INDEX, is_loading
from roles.split.modular.stages import Stage
from roles.split.program import ModelError
from roles.split.view import Pipeline
from transfer.messages import Role

# what they say is for who writes pipelines: an error in a block is raised as well
_TALKING = ("guiders.guider_utils", "modular_pipelines.modular_pipeline")


def is_modular(folder: Folder) -> bool:
    """Whether a folder's pipeline exists as blocks only."""
    if folder.index_name == MODULAR_INDEX:
        return True
    found = getattr(diffusers, folder.pipeline, None)
    return isinstance(found, type) and issubclass(found, ModularPipeline)


def modular_class(folder: Folder) -> type[Any]:
    """Raises ModelError for a class that the installed diffusers does not have."""
    found = getattr(diffusers, folder.pipeline, None)
    if not (isinstance(found, type) and issubclass(found, ModularPipeline)):
        raise ModelError(
            f"{folder.name} is a {folder.pipeline}, which diffusers {diffusers.__version__} "
            "does not have"
        )
    return found


def modular_pipeline(
    folder: Folder, roles: Collection[Role], loader: Loader
) -> tuple[Pipeline, dict[Part, Stage]]:
    """The pipeline with what these roles compute with, and its stages. Raises ModelError."""
    for name in _TALKING:
        logging.getLogger(f"diffusers.{name}").setLevel(logging.CRITICAL)
    pipeline = _empty(folder)
    divided = stages.divide(pipeline._blocks)
    real = _real(divided, roles)
    for entry in folder.components:
        if entry.name in pipeline._component_specs:
            make = loader.real if entry.name in real else loader.stand_in
            # past the pipeline's own way, which would write the faces' class names into its config
            pipeline.__dict__[entry.name] = make(entry)
    return pipeline, divided


def _empty(folder: Folder) -> Pipeline:
    """The pipeline without what is loaded from files."""
    kind = modular_class(folder)
    try:
        return kind(
            pretrained_model_name_or_path=str(folder.path),
            modular_config_dict=_config(folder),
        )
    except Exception as error:
        raise ModelError(
            f"{folder.name}: {kind.__name__} cannot be made: {brief(error)}"
        ) from error


def _config(folder: Folder) -> dict[str, Any]:
    """The settings of the index; the components are loaded here, not there."""
    return {name: value for name, value in folder.written.items() if not is_loading(value)}


def _real(divided: Mapping[Part, Stage], roles: Collection[Role]) -> set[str]:
    """The components of which these roles need the weights."""
    served = stages.PARTS if "monolithic" in roles else cast(Collection[Part], roles)
    return {name for part in served if part in divided for name in divided[part].components}
