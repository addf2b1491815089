"""Cosmos 2, as far as it makes pictures."""

from typing import Any

from diffusers import AutoencoderKLWan, CosmosTransformer3DModel, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.cosmos import pipeline_cosmos2_text2image

from tests.conformance.case import Case
from tests.conformance.parts.guardrail import unguarded
from tests.support.model_parts import byte_tokenizer, t5

TEXT = {
    "prompt": "a small dog",
    "negative_prompt": "bad",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}


def cosmos2() -> Any:
    return unguarded(
        pipeline_cosmos2_text2image,
        "Cosmos2TextToImagePipeline",
        text_encoder=t5(),
        tokenizer=byte_tokenizer(512),
        transformer=CosmosTransformer3DModel(
            in_channels=16,
            out_channels=16,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            mlp_ratio=2,
            text_embed_dim=32,
            adaln_lora_dim=4,
            max_size=(4, 32, 32),
            concat_padding_mask=False,  # which needs torchvision
            extra_pos_embed_type=None,
        ),
        vae=AutoencoderKLWan(
            base_dim=4,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
    )


CASES = [Case("Cosmos2TextToImagePipeline", "text to image", cosmos2, lambda: TEXT)]
