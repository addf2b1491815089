"""Random LoRA adapters for the tiny pipelines, in the format that diffusers saves and loads, and
what diffusers' own pipelines make with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from msgspec.structs import replace
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from roles.split.decoding.outputs import samples
from roles.split.decoding.rates import Fps
from roles.split.program import Call
from roles.split.weights.adapted import quietly
from tests.support.splitting import Arrays, arrays, call
from transfer.messages import Lora

TARGETS = ["to_q", "to_k", "to_v"]
OF_TEXT = ["q_proj", "k_proj", "v_proj", "out_proj"]
NAME = "pytorch_lora_weights.safetensors"


def build_lora(folder: Path, place: Path, seed: int) -> Path:
    """An adapter for the denoiser of the pipeline in `folder`, large enough to be seen."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    name = "unet" if hasattr(pipeline, "unet") else "transformer"
    layers = {f"{name}_lora_layers": random_layers(getattr(pipeline, name), TARGETS, seed)}
    type(pipeline).save_lora_weights(place, **layers)
    return place


def build_lora_of(folder: Path, place: Path, seed: int, parts: Mapping[str, list[str]]) -> Path:
    """One for several components: `parts` has the names of the layers that it changes in each."""
    return lora_of(DiffusionPipeline.from_pretrained(folder), place, seed, parts)


def lora_of(pipeline: Any, place: Path, seed: int, parts: Mapping[str, list[str]]) -> Path:
    """The same, for a pipeline that is not used any more afterwards."""
    layers = {
        part: random_layers(getattr(pipeline, part), targets, seed)
        for part, targets in parts.items()
    }
    return save(layers, place)


def save(layers: Mapping[str, Mapping[str, torch.Tensor]], place: Path) -> Path:
    """By component."""
    place.mkdir(parents=True, exist_ok=True)
    keyed = {f"{part}.{key}": value for part, own in layers.items() for key, value in own.items()}
    save_file(keyed, place / NAME)
    return place


def random_layers(module: Any, targets: list[str], seed: int) -> dict[str, torch.Tensor]:
    """Those of an adapter for the module, which has a random one on afterwards."""
    module.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    generator = torch.Generator().manual_seed(seed)
    state = get_peft_model_state_dict(module, adapter_name="default")
    return {key: torch.randn(value.shape, generator=generator) / 2 for key, value in state.items()}


def with_loras(params: dict[str, Any], *loras: Lora, seed: int = 1, request: str = "r") -> Call:
    """A request that has these on."""
    asked = call(params, seed, request)
    return replace(asked, inputs=replace(asked.inputs, loras=list(loras)))


def by_diffusers(
    folder: Path, params: dict[str, Any], seed: int, *worn: tuple[Path, Lora]
) -> Arrays:
    """What a fresh pipeline makes of it."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    with quietly():
        for path, lora in worn:
            pipeline.load_lora_weights(path, adapter_name=lora.name)
    if worn:
        names, scales = zip(*((lora.name, lora.scale) for _, lora in worn), strict=True)
        pipeline.set_adapters(list(names), list(scales))
    output = pipeline(**params, generator=torch.Generator("cpu").manual_seed(seed))
    return arrays(samples(output, {}, Fps(1, "request"), 1))  # the rates do not matter here
