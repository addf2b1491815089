"""Vision encoders, and what prepares pictures for them. The processors are those on Pillow: the
others want torchvision."""

from typing import Any

import transformers as hf


def clip_vision(side: int = 16, projected: bool = False, **config: Any) -> hf.PreTrainedModel:
    """Its last hidden state has (side / 4)^2 + 1 tokens of width 16."""
    told = hf.CLIPVisionConfig(
        **{
            "hidden_size": 16,
            "intermediate_size": 16,
            "projection_dim": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": side,
            "patch_size": 4,
            **config,
        }
    )
    kind = hf.CLIPVisionModelWithProjection if projected else hf.CLIPVisionModel
    return kind(told).eval()


def clip_processor(side: int = 16) -> Any:
    return hf.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side)


def siglip_vision(side: int = 16, width: int = 32) -> hf.PreTrainedModel:
    config = hf.SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        patch_size=4,
    )
    return hf.SiglipVisionModel(config).eval()


def siglip_processor(side: int = 16) -> Any:
    return hf.SiglipImageProcessorPil(size={"height": side, "width": side})
