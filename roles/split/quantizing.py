"""`--quantize`: torchao through diffusers' own quantization config, while the weights load."""

import importlib
import importlib.util
from typing import Any

import diffusers

from roles.split.program import ModelError

# what the flag says, and torchao's config for it
KINDS = {
    "int8": "Int8WeightOnlyConfig",
    "int8-dynamic": "Int8DynamicActivationInt8WeightConfig",
    "int4": "Int4WeightOnlyConfig",
    "float8": "Float8WeightOnlyConfig",
    "float8-dynamic": "Float8DynamicActivationFloat8WeightConfig",
}


def quantization_config(kind: str) -> Any:
    """For `from_pretrained`. Raises ModelError."""
    if kind not in KINDS:
        raise ModelError(f"--quantize {kind}: there are {', '.join(KINDS)}")
    if importlib.util.find_spec("torchao") is None:
        raise ModelError(
            "--quantize needs torchao, which is not installed (pip install 'triptych[quantize]')"
        )
    quantization = importlib.import_module("torchao.quantization")
    made: Any = diffusers.TorchAoConfig
    return made(getattr(quantization, KINDS[kind])())
