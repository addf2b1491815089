"""DreamLite: a UNet that reads a vision-language model."""

from typing import Any

import diffusers
from diffusers import AutoencoderTiny, DreamLiteUNetModel, FlowMatchEulerDiscreteScheduler

from tests.conformance.case import Case
from tests.conformance.parts.pictures import picture
from tests.conformance.parts.processors import qwen_processor, vision_tokenizer
from tests.conformance.parts.texts import qwen3_vl

TEXT = {"prompt": "a small dog", "height": 64, "width": 64, "num_inference_steps": 2}


def dreamlite(kind: str) -> Any:
    """A pipeline of that class."""
    return getattr(diffusers, kind)(
        text_encoder=qwen3_vl(),
        tokenizer=vision_tokenizer(1024),
        processor=qwen_processor("Qwen3VLProcessor"),
        vae=AutoencoderTiny(
            encoder_block_out_channels=(16, 16, 16, 16),
            decoder_block_out_channels=(16, 16, 16, 16),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
        ),
        unet=DreamLiteUNetModel(
            sample_size=8,
            down_block_types=(
                "DreamLiteCrossAttnNoSelfAttnDownBlock2D",
                "DreamLiteCrossAttnDownBlock2D",
            ),
            up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"),
            block_out_channels=(16, 32),
            cross_attention_dim=16,
            attention_head_dim=8,
            layers_per_block=1,
            norm_num_groups=8,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


CASES = [
    Case(
        kind,
        workflow,
        lambda kind=kind: dreamlite(kind),
        lambda media=media: {**TEXT, **{name: picture(0, 64, 64) for name in media}},
    )
    for kind in ("DreamLitePipeline", "DreamLiteMobilePipeline")
    for workflow, media in (("text to image", ()), ("edit", ("image",)))
]
