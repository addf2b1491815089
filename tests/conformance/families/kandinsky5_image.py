"""Kandinsky 5, as far as it makes pictures."""

from typing import Any

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler, Kandinsky5Transformer3DModel

from tests.conformance.case import Case
from tests.conformance.parts.autoencoders import kl
from tests.conformance.parts.pictures import picture
from tests.conformance.parts.processors import qwen_processor
from tests.conformance.parts.texts import qwen2_5_vl
from tests.support.model_parts import clip, clip_tokenizer

TEXT = {"prompt": "a red square", "negative_prompt": "bad", "num_inference_steps": 2}


def kandinsky5(kind: str, visual_cond: bool) -> Any:
    """A pipeline of that class. `visual_cond`: the transformer sees a picture too."""
    return getattr(diffusers, kind)(
        transformer=Kandinsky5Transformer3DModel(
            in_visual_dim=4,
            in_text_dim=16,
            in_text_dim2=32,
            time_dim=16,
            out_visual_dim=4,
            model_dim=16,
            ff_dim=32,
            num_text_blocks=1,
            num_visual_blocks=2,
            axes_dims=(2, 2, 4),
            visual_cond=visual_cond,
            attention_type="regular",
        ),
        # makes a megapixel, of which attention in the VAE would take minutes
        vae=kl((4, 4, 4, 8), mid_block_add_attention=False),
        text_encoder=qwen2_5_vl(),
        tokenizer=qwen_processor("Qwen2VLProcessor"),
        text_encoder_2=clip(),
        tokenizer_2=clip_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


CASES = [
    Case(
        "Kandinsky5T2IPipeline",
        "text to image",
        lambda: kandinsky5("Kandinsky5T2IPipeline", False),
        lambda: TEXT,
    ),
    Case(
        "Kandinsky5I2IPipeline",
        "edit",
        lambda: kandinsky5("Kandinsky5I2IPipeline", True),
        lambda: {**TEXT, "image": picture()},
    ),
]
