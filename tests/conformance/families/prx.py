"""PRX, over latents and over pixels."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import FlowMatchEulerDiscreteScheduler, PRXTransformer2DModel
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from tests.conformance.case import Case
from tests.conformance.parts.texts import VOCABULARY
from tests.support.model_parts import byte_tokenizer, qwen3, vae

TEXT = {
    "prompt": "a small dog",
    "negative_prompt": "bad",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
    "use_resolution_binning": False,
}


def transformer(**config: Any) -> PRXTransformer2DModel:
    return PRXTransformer2DModel(
        context_in_dim=32,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=1,
        axes_dim=[4, 4],
        **config,
    )


def t5gemma() -> Any:
    words = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "layer_types": ["full_attention"],
    }
    config = hf.T5GemmaConfig(encoder=words, decoder=words, is_encoder_decoder=False)
    encoder = T5GemmaEncoder(config.encoder).eval()
    encoder.config = config  # as in published folders; of another diffusers makes a full-sized one
    return encoder


def latent() -> Any:
    return diffusers.PRXPipeline(
        transformer=transformer(patch_size=1, in_channels=4),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=t5gemma(),
        tokenizer=byte_tokenizer(256),
        vae=vae(shift_factor=0.1, scaling_factor=1.5),
    )


def pixel() -> Any:
    return diffusers.PRXPixelPipeline(
        transformer=transformer(
            patch_size=2, in_channels=3, bottleneck_size=8, resolution_embeds=True
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=qwen3(),
        tokenizer=byte_tokenizer(256),
        prompt_max_tokens=16,
    )


CASES = [
    Case("PRXPipeline", "text to image", latent, lambda: TEXT),
    Case("PRXPixelPipeline", "text to image", pixel, lambda: TEXT),
]
