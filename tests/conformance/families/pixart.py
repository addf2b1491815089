"""PixArt, and perturbed attention with it."""

from typing import Any

import diffusers
from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel

from tests.conformance.case import Case
from tests.support.model_parts import byte_tokenizer, t5, vae

TEXT = {"prompt": "a small dog", "height": 32, "width": 32, "num_inference_steps": 3}
PLAIN = {**TEXT, "use_resolution_binning": False}


def pixart(kind: str, **more: Any) -> Any:
    """A pipeline of that class."""
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        use_additional_conditions=False,
    )
    return getattr(diffusers, kind)(
        tokenizer=byte_tokenizer(120),
        text_encoder=t5(),
        vae=vae(),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
        **more,
    )


CASES = [
    Case(
        "PixArtAlphaPipeline", "text to image", lambda: pixart("PixArtAlphaPipeline"), lambda: PLAIN
    ),
    Case(
        "PixArtSigmaPipeline", "text to image", lambda: pixart("PixArtSigmaPipeline"), lambda: PLAIN
    ),
    Case(
        "PixArtSigmaPAGPipeline",
        "text to image",
        lambda: pixart("PixArtSigmaPAGPipeline", pag_applied_layers=["blocks.1"]),
        lambda: {**PLAIN, "pag_scale": 2.0},
    ),
]
