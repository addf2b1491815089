"""Cosmos: worlds from text, pictures and films."""

from typing import Any

import diffusers
from diffusers import (
    AutoencoderKLCosmos,
    Cosmos3OmniTransformer,
    CosmosTransformer3DModel,
    DiffusionPipeline,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.cosmos import (
    pipeline_cosmos2_5_predict,
    pipeline_cosmos2_video2world,
    pipeline_cosmos_text2world,
    pipeline_cosmos_video2world,
)

from tests.conformance.case import Absent, Case
from tests.conformance.parts.footage import BOTH, film, picture
from tests.conformance.parts.guardrail import unguarded
from tests.conformance.parts.video_vaes import wan_vae
from tests.support.model_parts import byte_tokenizer, qwen_vl, t5


def transformer(channels: int, out: int, **config: Any) -> CosmosTransformer3DModel:
    return CosmosTransformer3DModel(
        **{
            "in_channels": channels,
            "out_channels": out,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 2,
            "mlp_ratio": 2,
            "text_embed_dim": 32,
            "adaln_lora_dim": 4,
            "max_size": (4, 32, 32),
            "rope_scale": (2.0, 1.0, 1.0),
            "extra_pos_embed_type": "learnable",
            "concat_padding_mask": False,  # is resized with torchvision
            **config,
        }
    )


def cosmos1(module: Any, name: str, channels: int) -> DiffusionPipeline:
    """`channels`: of the latents that its transformer sees."""
    vae = AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=2,
        patch_size=4,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )
    scheduler = EDMEulerScheduler(sigma_max=80, final_sigmas_type="sigma_min")
    return unguarded(
        module,
        name,
        text_encoder=t5(),
        tokenizer=byte_tokenizer(512),
        transformer=transformer(channels, 4),
        vae=vae,
        scheduler=scheduler,
    )


def cosmos2() -> DiffusionPipeline:
    return unguarded(
        pipeline_cosmos2_video2world,
        "Cosmos2VideoToWorldPipeline",
        text_encoder=t5(),
        tokenizer=byte_tokenizer(512),
        transformer=transformer(17, 16),
        vae=wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
    )


def cosmos25(module: Any, name: str, **parts: Any) -> DiffusionPipeline:
    return unguarded(
        module,
        name,
        **{
            "text_encoder": qwen_vl(),
            "tokenizer": byte_tokenizer(2048),
            # what it reads are the hidden states of all layers side by side
            "transformer": transformer(17, 16),
            "vae": wan_vae(),
            "scheduler": UniPCMultistepScheduler(),
            **parts,
        },
    )


def omni() -> DiffusionPipeline:
    """One transformer that reads the prompt too."""
    tokenizer = byte_tokenizer(2048)
    transformer = Cosmos3OmniTransformer(
        head_dim=8,
        hidden_act="relu2",
        hidden_size=8,
        intermediate_size=16,
        latent_channel=16,
        latent_patch_size=1,
        num_attention_heads=1,
        num_hidden_layers=1,
        num_key_value_heads=1,
        patch_latent_dim=16,
        qk_norm_for_text=False,
        rms_norm_eps=1e-5,
        rope_axes_dim=[2, 1, 1],
        vocab_size=len(tokenizer),
    )
    return diffusers.Cosmos3OmniPipeline(
        transformer=transformer,
        text_tokenizer=tokenizer,
        vae=wan_vae(),
        scheduler=UniPCMultistepScheduler(),
        enable_safety_checker=False,
    )


PLAIN = {
    **BOTH,
    "use_system_prompt": False,
    "add_resolution_template": False,
    "add_duration_template": False,
}
SHORT = {**BOTH, "num_frames": 9, "max_sequence_length": 32}
QUICK = {**BOTH, "max_sequence_length": 512}


def world1() -> DiffusionPipeline:
    return cosmos1(pipeline_cosmos_video2world, "CosmosVideoToWorldPipeline", 5)


def predict() -> DiffusionPipeline:
    return cosmos25(pipeline_cosmos2_5_predict, "Cosmos2_5_PredictBasePipeline")


CASES = [
    Case(
        "CosmosTextToWorldPipeline",
        "text to video",
        lambda: cosmos1(pipeline_cosmos_text2world, "CosmosTextToWorldPipeline", 4),
        lambda: SHORT,
    ),
    Case(
        "CosmosVideoToWorldPipeline",
        "image to video",
        world1,
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "CosmosVideoToWorldPipeline",
        "video to video",
        world1,
        lambda: {**SHORT, "video": film(9)},
    ),
    Case(
        "Cosmos2VideoToWorldPipeline",
        "image to video",
        cosmos2,
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "Cosmos2VideoToWorldPipeline",
        "video to video",
        cosmos2,
        lambda: {**SHORT, "video": film(9)},
    ),
    # pictures and films go through torchvision, which is not installed here
    Case("Cosmos2_5_PredictBasePipeline", "text to video", predict, lambda: QUICK),
    Case("Cosmos3OmniPipeline", "text to video", omni, lambda: PLAIN),
    Case("Cosmos3OmniPipeline", "image to video", omni, lambda: {**PLAIN, "image": picture()}),
]
ABSENT = [
    Absent(
        "Cosmos2_5_TransferPipeline",
        "its ControlNet resizes masks with torchvision, which is not installed here",
    )
]
