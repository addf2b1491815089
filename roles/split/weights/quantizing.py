"""`--quantize`: torchao through diffusers' own quantization config, while the weights load."""

import importlib
import importlib.util
from typing import Any

import diffusers

from roles.options import QUANTIZED
from roles.split.program import ModelError

# torchao's config for what the flag says
KINDS = dict(
    zip(
        QUANTIZED,
        (
            "Int8WeightOnlyConfig",
            "Int8DynamicActivationInt8WeightConfig",
            "Int4WeightOnlyConfig",
            "Float8WeightOnlyConfig",
            "Float8DynamicActivationFloat8WeightConfig",
        ),
        strict=True,
    )
)


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
