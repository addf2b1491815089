"""Chroma: a Flux that is guided."""

from typing import Any

import diffusers
from diffusers import ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

from tests.conformance.case import Case
from tests.conformance.parts.pictures import mask, picture
from tests.support.model_parts import byte_tokenizer, t5, vae

TEXT = {
    "prompt": "a red circle",
    "negative_prompt": "blue",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
    "max_sequence_length": 32,
}
REDRAWN = {**TEXT, "num_inference_steps": 4, "strength": 0.7}


def chroma(kind: str, **config: Any) -> Any:
    """A pipeline of that class. `config`: what its transformer's has besides."""
    transformer = ChromaTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_hidden_dim=32,
        approximator_layers=1,
        approximator_num_channels=16,
    )
    transformer.register_to_config(**config)
    return getattr(diffusers, kind)(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.1, scaling_factor=1.5),
        text_encoder=t5(),
        tokenizer=byte_tokenizer(512),
        transformer=transformer,
    )


CASES = [
    Case("ChromaPipeline", "text to image", lambda: chroma("ChromaPipeline"), lambda: TEXT),
    Case(
        "ChromaImg2ImgPipeline",
        "image to image",
        lambda: chroma("ChromaImg2ImgPipeline"),
        lambda: {**REDRAWN, "image": picture()},
    ),
    Case(
        "ChromaInpaintPipeline",
        "inpainting",
        lambda: chroma("ChromaInpaintPipeline", guidance_embeds=False),
        lambda: {**REDRAWN, "image": picture(), "mask_image": mask()},
        quirk="diffusers wants guidance_embeds in the transformer's config, which the class of the "
        "transformer does not write",
    ),
]
