"""Kandinsky 5 and 6, as far as they make videos."""

from typing import Any

import diffusers
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Kandinsky5Transformer3DModel,
    Kandinsky6SRLatentUpscalerBank,
    Kandinsky6SRPipeline,
    Kandinsky6SRTransformer3DModel,
    Kandinsky6SRVAE,
    Kandinsky6TI2VAPipeline,
    Kandinsky6Transformer3DModel,
    MMAudioVAE,
    MMAudioVocoder,
)

from tests.conformance.case import Case
from tests.conformance.parts.footage import BOTH, film, picture
from tests.conformance.parts.processors import qwen_processor
from tests.conformance.parts.texts import qwen2_5_vl
from tests.conformance.parts.video_vaes import hunyuan_vae
from tests.support.model_parts import clip, clip_tokenizer

TEXT_SIZES = {"in_text_dim": 16, "in_text_dim2": 32, "time_dim": 16, "num_text_blocks": 1}
SIZES = {"in_visual_dim": 4, "out_visual_dim": 4, "num_visual_blocks": 2}


def _text_parts() -> dict[str, Any]:
    return {
        "text_encoder": qwen2_5_vl(),
        "tokenizer": qwen_processor("Qwen2_5_VLProcessor"),
        "text_encoder_2": clip(),
        "tokenizer_2": clip_tokenizer(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
    }


def kandinsky5(name: str) -> DiffusionPipeline:
    transformer = Kandinsky5Transformer3DModel(
        **SIZES,
        **TEXT_SIZES,
        model_dim=16,
        ff_dim=32,
        axes_dims=(2, 2, 4),
        visual_cond=True,
        attention_type="regular",
    )
    parts = {**_text_parts(), "transformer": transformer, "vae": hunyuan_vae()}
    return getattr(diffusers, name)(**parts)


def kandinsky6() -> DiffusionPipeline:
    transformer = Kandinsky6Transformer3DModel(
        **SIZES,
        **TEXT_SIZES,
        model_dim=12,
        ff_dim=24,
        axes_dims=(2, 1, 1),
        visual_cond=True,
        in_audio_dim=4,
        out_audio_dim=4,
        visual_token_type_num_embeddings=2,
    )
    audio_vae = MMAudioVAE(
        mel_bins=8,
        latent_channels=4,
        hidden_channels=8,
        channel_multipliers=(1, 2),
        layers_per_block=1,
        sample_rate=64,
        n_fft=16,
        hop_length=4,
    )
    vocoder = MMAudioVocoder(
        num_mels=8,
        upsample_initial_channel=8,
        upsample_rates=(2, 2),
        upsample_kernel_sizes=(4, 4),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3),),
    )
    return Kandinsky6TI2VAPipeline(
        **_text_parts(),
        transformer=transformer,
        vae=hunyuan_vae(),
        audio_vae=audio_vae,
        vocoder=vocoder,
    )


def larger() -> DiffusionPipeline:
    transformer = Kandinsky6SRTransformer3DModel(
        **SIZES,
        time_dim=16,
        patch_size=(1, 1, 1),
        model_dim=24,
        ff_dim=32,
        axes_dims=(4, 4, 4),
        tile_sizes=((32, 32), (32, 64), (64, 32)),
    )
    vae = Kandinsky6SRVAE(
        latent_channels=4,
        encoder_block_out_channels=(4, 8, 8),
        decoder_block_out_channels=(4, 8, 8),
        layers_per_block=1,
        temporal_compression_ratio=4,
        temporal_compression_start_level=0,
    )
    upscaler = Kandinsky6SRLatentUpscalerBank(
        in_channels=4,
        stage_channels=(8, 8, 4),
        num_pre_blocks=1,
        num_mid_blocks=1,
        num_post_blocks=1,
        num_x2_adapter_blocks=1,
        scales=(2, 4),
    )
    return Kandinsky6SRPipeline(
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.5),
        latent_upscaler=upscaler,
    )


SHORT = {**BOTH, "max_sequence_length": 32}
CASES = [
    Case(
        "Kandinsky5T2VPipeline",
        "text to video",
        lambda: kandinsky5("Kandinsky5T2VPipeline"),
        lambda: SHORT,
    ),
    Case(
        "Kandinsky5I2VPipeline",
        "image to video",
        lambda: kandinsky5("Kandinsky5I2VPipeline"),
        # of fewer than five latent frames it makes no numbers
        lambda: {**SHORT, "num_frames": 21, "image": picture()},
    ),
    Case("Kandinsky6TI2VAPipeline", "text to video with sound", kandinsky6, lambda: SHORT),
    Case(
        "Kandinsky6TI2VAPipeline",
        "image to video with sound",
        kandinsky6,
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "Kandinsky6SRPipeline",
        "video to larger video",
        larger,
        lambda: {"video": film(5), "resolution_scale": 2, "num_inference_steps": 2},
    ),
]
