"""JoyImage: editing with one picture, and with several."""

from typing import Any

import diffusers
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    JoyImageEditPlusTransformer3DModel,
    JoyImageEditTransformer3DModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.pictures import picture
from tests.conformance.parts.processors import qwen_processor, vision_tokenizer
from tests.conformance.parts.texts import qwen3_vl

EDIT = {"prompt": "make it red", "negative_prompt": "blue", "num_inference_steps": 2}
MEGAPIXEL = "makes a megapixel, whatever the size of the picture"


def joyimage(kind: str, transformer: type[Any]) -> Any:
    """A pipeline of that class. Its VAE has factor 32, of which 8 are patches, for pictures of a
    megapixel."""
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=16,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        in_channels=3 * 8 * 8,
        out_channels=3 * 8 * 8,
        patch_size=8,
        scale_factor_spatial=32,
    )
    return getattr(diffusers, kind)(
        transformer=transformer(
            hidden_size=32,
            num_attention_heads=2,
            text_dim=16,
            num_layers=1,
            rope_dim_list=[4, 6, 6],
        ),
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=qwen3_vl(),
        tokenizer=vision_tokenizer(2048),
        processor=qwen_processor("Qwen3VLProcessor"),
    )


def plus() -> Any:
    return joyimage("JoyImageEditPlusPipeline", JoyImageEditPlusTransformer3DModel)


CASES = [
    Case(
        "JoyImageEditPipeline",
        "edit",
        lambda: joyimage("JoyImageEditPipeline", JoyImageEditTransformer3DModel),
        lambda: {**EDIT, "image": picture()},
        quirk=MEGAPIXEL,
    ),
    Case(
        "JoyImageEditPlusPipeline",
        "edit with two pictures",
        plus,
        lambda: {**EDIT, "images": [picture(), picture(1)]},
        quirk=MEGAPIXEL,
    ),
]
