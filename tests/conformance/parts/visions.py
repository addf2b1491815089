"""Encoders of pictures, and processors that make numbers of pictures and texts."""

from typing import Any

import transformers as hf

_SMALL = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def siglip() -> dict[str, Any]:
    """A vision model and its processor, for pictures of 16 by 16 pixels in 4 patches."""
    config = hf.SiglipVisionConfig(**_SMALL, image_size=16, patch_size=8)
    return {
        "image_encoder": hf.SiglipVisionModel(config).eval(),
        "feature_extractor": hf.SiglipImageProcessorPil(size={"height": 16, "width": 16}),
    }


def siglip2() -> dict[str, Any]:
    """The kind that takes pictures of any shape."""
    config = hf.Siglip2VisionConfig(**_SMALL, patch_size=8, num_patches=16)
    return {
        "siglip": hf.Siglip2VisionModel(config).eval(),
        "siglip_processor": hf.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16),
    }
