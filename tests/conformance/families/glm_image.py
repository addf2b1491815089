"""GLM-Image: a language model writes tokens of the picture first."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import FlowMatchEulerDiscreteScheduler, GlmImageTransformer2DModel

from tests.conformance.case import Case
from tests.conformance.parts.autoencoders import kl
from tests.conformance.parts.processors import glm_processor
from tests.conformance.parts.texts import VOCABULARY, mark
from tests.support.model_parts import byte_tokenizer, t5

TEXT = {
    "prompt": 'a sign that says "open"',
    "height": 32,
    "width": 32,
    "num_inference_steps": 2,
}
_TOKENS = 128  # of pictures


def writer() -> hf.PreTrainedModel:
    words = {
        "vocab_size": VOCABULARY,
        "pad_token_id": 0,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "vision_vocab_size": _TOKENS,
        "rope_parameters": {
            "mrope_section": [4, 2, 2],
            "rope_type": "default",
            "rope_theta": 10000.0,
        },
    }
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "num_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "intermediate_size": 32,
    }
    tokens = {"embed_dim": 32, "num_embeddings": _TOKENS, "latent_channels": 32}
    config = hf.GlmImageConfig(
        text_config=words,
        vision_config=vision,
        vq_config=tokens,
        image_token_id=mark("<|image_pad|>"),
        image_start_token_id=mark("<|vision_start|>"),
        image_end_token_id=mark("<|vision_end|>"),
    )
    return hf.GlmImageForConditionalGeneration(config).eval()


def glm_image() -> Any:
    return diffusers.GlmImagePipeline(
        tokenizer=byte_tokenizer(512),
        processor=glm_processor(),
        text_encoder=t5(),
        vision_language_encoder=writer(),
        vae=kl(latents_mean=[0.1] * 4, latents_std=[1.5] * 4),
        transformer=GlmImageTransformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            text_embed_dim=32,
            time_embed_dim=16,
            condition_dim=8,
            prior_vq_quantizer_codebook_size=_TOKENS,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


CASES = [
    Case(
        "GlmImagePipeline",
        "text to image",
        glm_image,
        lambda: TEXT,
        quirk="editing does not run in the plain pipeline: it joins the features of the pictures, "
        "of which the pinned transformers wants a list",
    ),
]
