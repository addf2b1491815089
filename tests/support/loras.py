"""Random LoRA adapters for the tiny pipelines, in the format that diffusers saves and loads."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict

TARGETS = ["to_q", "to_k", "to_v"]
OF_TEXT = ["q_proj", "v_proj"]


def build_lora(folder: Path, place: Path, seed: int, text: bool = False) -> Path:
    """An adapter for the pipeline in `folder`, large enough to be seen. `text`: it changes the text
    encoder, too."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    name = "unet" if hasattr(pipeline, "unet") else "transformer"
    layers = {f"{name}_lora_layers": _layers(getattr(pipeline, name), TARGETS, seed)}
    if text:
        layers["text_encoder_lora_layers"] = _layers(pipeline.text_encoder, OF_TEXT, seed)
    type(pipeline).save_lora_weights(place, **layers)
    return place


def _layers(module: Any, targets: list[str], seed: int) -> dict[str, torch.Tensor]:
    module.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    generator = torch.Generator().manual_seed(seed)
    state = get_peft_model_state_dict(module, adapter_name="default")
    return {key: torch.randn(value.shape, generator=generator) / 2 for key, value in state.items()}
