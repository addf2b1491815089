"""Checkpoints in one file, as people pass them on: a tiny Stable Diffusion in its original layout.

file = checkpoint(folder, tmp_path / "sd.safetensors")
"""

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def checkpoint(folder: Path, file: Path, *parts: str) -> Path:
    """The file of a saved Stable Diffusion 1, or only of some of its `parts`."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    tensors: Tensors = {}
    if not parts or "unet" in parts:
        tensors |= _named("model.diffusion_model", unet(pipeline.unet))
    if not parts or "vae" in parts:
        tensors |= _named("first_stage_model", vae(pipeline.vae))
    if not parts or "text_encoder" in parts:
        text = pipeline.text_encoder.state_dict()
        flat = {f"text_model.{name.removeprefix('text_model.')}": x for name, x in text.items()}
        tensors |= _named("cond_stage_model.transformer", flat)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    return file


def unet(model: UNet2DConditionModel) -> Tensors:
    """A UNet's tensors by their original names."""
    layers = model.config.layers_per_block
    return {_of_unet(name, layers): tensor for name, tensor in model.state_dict().items()}


def _of_unet(name: str, layers: int) -> str:
    start, _, kind = name.rpartition(".")
    if start in _ENDS:
        return f"{_ENDS[start]}.{kind}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        what, index, rest = found.groups()
        place = 1 if what == "attentions" else 2 * int(index)
        return f"middle_block.{place}.{_inner(what, rest)}"
    found = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", name)
    assert found, name
    side, block, what, index, rest = found.groups()
    if side == "down":
        first = 1 + int(block) * (layers + 1)
        if what == "downsamplers":
            return f"input_blocks.{first + layers}.0.op.{kind}"
        return f"input_blocks.{first + int(index)}.{int(what == 'attentions')}.{_inner(what, rest)}"
    first = int(block) * (layers + 1)
    if what == "upsamplers":  # behind the attention of its block
        return f"output_blocks.{first + layers}.2.conv.{kind}"
    return f"output_blocks.{first + int(index)}.{int(what == 'attentions')}.{_inner(what, rest)}"


def _inner(what: str, rest: str) -> str:
    if what == "attentions":
        return rest
    part, _, kind = rest.partition(".")
    return f"{_RESNET[part]}.{kind}"


def vae(model: AutoencoderKL) -> Tensors:
    """A VAE's tensors by their original names; its linear layers are convolutions there."""
    blocks = len(model.config.up_block_types)
    found: Tensors = {}
    for name, tensor in model.state_dict().items():
        linear = ".attentions." in name and tensor.ndim == 2
        found[_of_vae(name, blocks)] = tensor[:, :, None, None] if linear else tensor
    return found


def _of_vae(name: str, blocks: int) -> str:
    def block(found: re.Match[str]) -> str:
        side, index, what, inner = found.groups()
        index = index if side == "down" else str(blocks - 1 - int(index))
        layer = f"block.{inner}" if what == "resnets" else what.removesuffix("rs")
        return f"{side}.{index}.{layer}"

    def attention(found: re.Match[str]) -> str:
        return f"mid.attn_1.{_ATTENTION[found[1]]}"

    name = re.sub(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)", block, name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"mid_block\.attentions\.0\.(group_norm|to_[qkv]|to_out\.0)", attention, name)
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")


def _named(prefix: str, tensors: dict[str, Any]) -> Tensors:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
