"""HiDream."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import FlowMatchEulerDiscreteScheduler, HiDreamImageTransformer2DModel

from tests.conformance.case import Case
from tests.conformance.parts.autoencoders import kl
from tests.conformance.parts.texts import language_model
from tests.support.model_parts import byte_tokenizer, clip, clip_tokenizer, t5

TEXT = {
    "prompt": "a small dog",
    "negative_prompt": "bad",
    "num_inference_steps": 2,
    "max_sequence_length": 64,
}


def hidream() -> Any:
    return diffusers.HiDreamImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=kl((8,)),
        text_encoder=clip(projected=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(projected=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(),
        tokenizer_3=byte_tokenizer(128),
        text_encoder_4=language_model(hf.LlamaConfig, hf.LlamaForCausalLM),
        tokenizer_4=byte_tokenizer(128),
        transformer=HiDreamImageTransformer2DModel(
            patch_size=8,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_channels=[32, 32],
            text_emb_dim=64,
            num_routed_experts=4,
            num_activated_experts=2,
            axes_dims_rope=(4, 2, 2),
            max_resolution=(128, 128),
            llama_layers=(0, 1),
            force_inference_output=True,
        ),
    )


CASES = [
    Case(
        "HiDreamImagePipeline",
        "text to image",
        hidream,
        lambda: TEXT,
        quirk="makes 128 latents by 128, whatever the size that is asked for",
    )
]
