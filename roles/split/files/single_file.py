"""A checkpoint in the layout of the people who trained it: one safetensors file for a whole
pipeline, or for one of its components.

diffusers reads them, `from_single_file`; here it does so for single components, so that a role has
no more of the file than its own. What the file holds is found out with the same conversions, on
tensors without numbers. These parts of diffusers are not meant for others: they stand here and
nowhere else.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.loaders import single_file, single_file_model, single_file_utils

from roles.split import skeleton
from roles.split.files.folder import ComponentEntry
from roles.split.files.lone_file import LoneFile
from roles.split.program import ModelError

# untyped
_pipelines: Any = single_file
_models: Any = single_file_model
_tools: Any = single_file_utils

# by the names that safetensors has for them; conversions look at shapes, not at these
_HALF = {"F16": torch.float16, "BF16": torch.bfloat16}


def holds(file: LoneFile, entry: ComponentEntry, kind: Any, home: Path) -> bool:
    """Whether diffusers makes this component from the file. `home`: the folder with its config."""
    return _holds(file, file.stamp, entry, kind, home)


@lru_cache(maxsize=64)
def _holds(file: LoneFile, _: int, entry: ComponentEntry, kind: Any, home: Path) -> bool:
    if issubclass(kind, transformers.PreTrainedModel):
        tensors = _outline(file)
        clip = _tools.is_clip_model_in_single_file(kind, tensors)
        return bool(clip or _tools.is_t5_in_single_file(tensors))
    named = _models._get_single_file_loadable_mapping_class(kind)
    if not issubclass(kind, _models.FromOriginalModelMixin) or named is None:
        return False
    config = kind.load_config(home)
    module = skeleton.build(lambda: kind.from_config(config), torch.float32, [])
    wanted = {name for name, _ in module.named_parameters()}
    return wanted <= _converted(file, named, config, module).keys()


def _converted(file: LoneFile, named: str, config: Any, module: Any) -> dict[str, Any]:
    """The file's tensors by the names that diffusers has for them; none if it is no such file."""
    tensors = _outline(file)
    if not _models._should_convert_state_dict_to_diffusers(module.state_dict(), tensors):
        return tensors
    convert = _models.SINGLE_FILE_LOADABLE_CLASSES[named]["checkpoint_mapping_fn"]
    try:
        found: dict[str, Any] = convert(config=config, checkpoint=tensors)
    except Exception:  # whatever a conversion stumbles over that was written for other files
        return {}
    return found


def read(
    file: LoneFile, entry: ComponentEntry, config: Path, dtype: torch.dtype | None, **options: Any
) -> Any:
    """The component with its weights, as `from_single_file(file, config=config)` of its pipeline
    makes it. Raises what diffusers raises."""
    return _pipelines.load_single_file_sub_model(
        library_name=entry.library,
        class_name=entry.class_name,
        name=entry.name,
        checkpoint=_tools.load_single_file_checkpoint(str(file.bring())),
        pipelines=diffusers.pipelines,
        is_pipeline_module=hasattr(diffusers.pipelines, entry.library),
        cached_model_config_path=str(config),
        local_files_only=True,
        torch_dtype=dtype,
        **options,
    )


def kept(kind: Any, dtype: torch.dtype) -> list[str]:
    """The parts of a module that stay in float32 when it is read from a file: of text encoders
    those that diffusers leaves, of its own models none."""
    if dtype != torch.float16 or not issubclass(kind, transformers.T5EncoderModel):
        return []
    return list(kind._keep_in_fp32_modules or ())


def usual_config(file: LoneFile) -> str:
    """The hub id of the pipeline that diffusers takes a file to be of, where nobody says it."""
    try:
        found: str = _tools.fetch_diffusers_config(_outline(file))["pretrained_model_name_or_path"]
    except Exception as error:
        raise ModelError(
            f"{file.name}: it cannot be told of which pipeline it is; say so with --model-config"
        ) from error
    return found


def _outline(file: LoneFile) -> dict[str, torch.Tensor]:
    """The file's tensors without their numbers; every time new ones, since conversions use them
    up."""
    return {
        name: torch.empty(
            told["shape"], dtype=_HALF.get(told["dtype"], torch.float32), device="meta"
        )
        for name, told in file.tensors().items()
    }
