"""Video models on transformers of 2024: Latte and Mochi."""

from diffusers import (
    AutoencoderKLMochi,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    LattePipeline,
    LatteTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
)

from tests.conformance.case import Absent, Case
from tests.conformance.parts.footage import BOTH
from tests.support.model_parts import byte_tokenizer, t5, vae


def latte() -> DiffusionPipeline:
    transformer = LatteTransformer3DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        video_length=4,
    )
    return LattePipeline(
        tokenizer=byte_tokenizer(120),
        text_encoder=t5(),
        vae=vae(),
        transformer=transformer,
        scheduler=DDIMScheduler(),
    )


def mochi() -> DiffusionPipeline:
    transformer = MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        text_embed_dim=32,
        time_embed_dim=4,
        max_sequence_length=16,
    )
    latents = AutoencoderKLMochi(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )
    return MochiPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=latents,
        text_encoder=t5(),
        tokenizer=byte_tokenizer(256),
        transformer=transformer,
    )


LATTE = {name: value for name, value in BOTH.items() if name != "num_frames"}
CASES = [
    Case(
        "LattePipeline",
        "text to video",
        latte,
        lambda: {**LATTE, "video_length": 4, "clean_caption": False, "decode_chunk_size": 3},
    ),
    Case(
        "MochiPipeline",
        "text to video",
        mochi,
        lambda: {**BOTH, "num_frames": 7, "max_sequence_length": 16},
    ),
]
ABSENT = [
    Absent(
        "AllegroPipeline",
        "it decodes in tiles only: its VAE raises NotImplementedError until enable_tiling() was "
        "called on the loaded pipeline, and a model folder does not say so",
    )
]
