"""Weights that were quantized before: folders whose config has a `quantization_config`, and GGUF
files. diffusers reads them, with the library that made them.

They are computed with as diffusers computes with them: kept quantized, and made numbers of one
dtype again in each layer. So the pixels are those of the plain pipeline with this component.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders import single_file_model

from roles.split.files.lone_file import LoneFile
from roles.split.program import ModelError

CONFIG = "quantization_config"
# by what configs call the method: the module that has to be there, and who has it
_LIBRARIES = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "gguf": ("gguf", "'triptych[gguf]'"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "torchao": ("torchao", "'triptych[quantize]'"),
}
_models: Any = single_file_model


def check_library(method: str, component: str) -> None:
    """Raises ModelError if what reads weights of that method is not installed. Of methods that are
    not known here diffusers itself says what it lacks."""
    module, package = _LIBRARIES.get(method, ("diffusers", ""))
    if not _is_there(module):
        raise ModelError(
            f"the weights of {component} are quantized with {method}, and {module} is not "
            f"installed (pip install {package})"
        )


def method_of(config: Mapping[str, Any]) -> str | None:
    """How the weights were quantized that lie beside a config; None: they were not."""
    told = config.get(CONFIG)
    if not isinstance(told, Mapping):
        return None
    if told.get("load_in_4bit") or told.get("load_in_8bit"):  # which may be all that it says
        return "bitsandbytes"
    found = str(told.get("quant_method", "an unknown method"))
    return "bitsandbytes" if found.startswith("bitsandbytes") else found


def reads_gguf(kind: Any) -> bool:
    """Whether diffusers makes modules of this class from GGUF files."""
    named = _models._get_single_file_loadable_mapping_class(kind)
    return issubclass(kind, _models.FromOriginalModelMixin) and named is not None


def read_gguf(file: LoneFile, component: str, kind: Any, home: Path, dtype: torch.dtype) -> Any:
    """The module as its `from_single_file` makes it, which computes in `dtype`. `home`: the folder
    with its config. Raises ModelError, and what diffusers raises."""
    check_library("gguf", component)
    making: Any = diffusers.GGUFQuantizationConfig
    return kind.from_single_file(
        str(file.bring()),
        config=str(home),
        local_files_only=True,
        quantization_config=making(compute_dtype=dtype),
        dtype=dtype,
    )


def _is_there(module: str) -> bool:
    """Whether it can be imported, without importing more of it than the package that it is in."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False
