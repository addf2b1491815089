"""What others made of Wan: its text encoder and VAE with a transformer of their own."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import (
    AdaptiveProjectedGuidance,
    AnyFlowFARTransformer3DModel,
    AnyFlowTransformer3DModel,
    ChronoEditTransformer3DModel,
    DiffusionPipeline,
    FlowMapEulerDiscreteScheduler,
    HeliosDMDScheduler,
    HeliosScheduler,
    HeliosTransformer3DModel,
    MotifVideoTransformer3DModel,
    SanaVideoTransformer3DModel,
    UniPCMultistepScheduler,
)

from tests.conformance.case import Case
from tests.conformance.families.wan import SHORT, SIZES, wan
from tests.conformance.parts.footage import BOTH, film, picture
from tests.conformance.parts.video_texts import BYTES, gemma2
from tests.conformance.parts.video_texts import SIZES as TEXT_SIZES
from tests.conformance.parts.video_vaes import wan_vae
from tests.conformance.parts.vision import clip_processor, clip_vision, siglip_processor
from tests.support.model_parts import byte_tokenizer


def chronoedit() -> DiffusionPipeline:
    transformer = ChronoEditTransformer3DModel(**{**SIZES, "in_channels": 36, "image_dim": 16})
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    eyes = {"image_encoder": clip_vision(), "image_processor": clip_processor()}
    return wan("ChronoEditPipeline", transformer, scheduler=scheduler, **eyes)


def anyflow() -> DiffusionPipeline:
    scheduler = FlowMapEulerDiscreteScheduler(shift=5.0)
    return wan("AnyFlowPipeline", AnyFlowTransformer3DModel(**SIZES), scheduler=scheduler)


def anyflow_far() -> DiffusionPipeline:
    """A chunk of frames after the other, with a cache of the chunks before."""
    transformer = AnyFlowFARTransformer3DModel(
        **SIZES, compressed_patch_size=(1, 4, 4), full_chunk_limit=3
    )
    scheduler = FlowMapEulerDiscreteScheduler(shift=5.0)
    return wan("AnyFlowFARPipeline", transformer, scheduler=scheduler)


def _helios_transformer() -> HeliosTransformer3DModel:
    sizes = {name: value for name, value in SIZES.items() if name != "rope_max_seq_len"}
    return HeliosTransformer3DModel(
        **sizes,
        rope_dim=(4, 4, 4),
        has_multi_term_memory_patch=True,
        guidance_cross_attn=True,
        zero_history_timestep=True,
        is_amplify_history=False,
    )


def helios() -> DiffusionPipeline:
    scheduler = HeliosScheduler(stage_range=[0, 1], stages=1, use_dynamic_shifting=True)
    return wan("HeliosPipeline", _helios_transformer(), scheduler=scheduler)


def helios_pyramid(distilled: bool = False) -> DiffusionPipeline:
    kind = HeliosDMDScheduler if distilled else HeliosScheduler
    # with the usual gamma of 1/3 a matrix is singular, and its root fails on some processors
    scheduler = kind(stages=3, gamma=0.25, use_dynamic_shifting=True)
    options = {"is_cfg_zero_star": False, "is_distilled": distilled}
    return wan("HeliosPyramidPipeline", _helios_transformer(), scheduler=scheduler, **options)


def motif(name: str) -> DiffusionPipeline:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    text = {**TEXT_SIZES, "vocab_size": BYTES, "head_dim": 16, "max_position_embeddings": 512}
    config = hf.T5Gemma2EncoderConfig(
        text_config=hf.T5Gemma2TextConfig(**text, dropout_rate=0.0),
        vision_config=hf.SiglipVisionConfig(**vision),
    )
    transformer = MotifVideoTransformer3DModel(
        in_channels=33,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_single_layers=1,
        patch_size=1,
        patch_size_t=1,
        text_embed_dim=32,
        image_embed_dim=16,
        rope_axes_dim=(4, 4, 4),
    )
    return wan(
        name,
        transformer,
        text_encoder=hf.T5Gemma2Encoder(config).eval(),
        guider=AdaptiveProjectedGuidance(),
        feature_extractor=siglip_processor(),
    )


def sana(name: str, **parts: Any) -> DiffusionPipeline:
    transformer = SanaVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=32,
        mlp_ratio=2.5,
        sample_size=8,
        patch_size=(1, 2, 2),
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    return getattr(diffusers, name)(
        tokenizer=byte_tokenizer(2048),
        text_encoder=gemma2(),
        vae=wan_vae(),
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


NINE = {**SHORT, "num_frames": 9}
CHUNKS = {"num_latent_frames_per_chunk": 2, "num_frames": 9}
PYRAMID = {
    **{name: value for name, value in SHORT.items() if name != "num_inference_steps"},
    **CHUNKS,
    "height": 64,
    "width": 64,
    "pyramid_num_inference_steps_list": [1, 1, 2],
}
SANA = {
    **{name: value for name, value in BOTH.items() if name != "num_frames"},
    "frames": 5,
    "max_sequence_length": 32,
    "complex_human_instruction": None,
    "use_resolution_binning": False,
}
CASES = [
    Case("ChronoEditPipeline", "edit a picture", chronoedit, lambda: {**SHORT, "image": picture()}),
    Case(
        "ChronoEditPipeline",
        "edit a picture, with reasoning",
        chronoedit,
        lambda: {
            **SHORT,
            "image": picture(),
            "num_frames": 9,
            "enable_temporal_reasoning": True,
            "num_temporal_reasoning_steps": 1,
        },
    ),
    Case("AnyFlowPipeline", "text to video", anyflow, lambda: SHORT),
    Case(
        "AnyFlowPipeline",
        "video to longer video",
        anyflow,
        lambda: {**SHORT, "num_frames": 9, "video": film(5)},
    ),
    Case(
        "AnyFlowFARPipeline",
        "text to video",
        anyflow_far,
        lambda: {**NINE, "chunk_partition": [1, 1, 1], "guidance_scale": 3.0},
    ),
    Case("HeliosPipeline", "text to video", helios, lambda: {**SHORT, **CHUNKS}),
    Case(
        "HeliosPipeline",
        "image to video",
        helios,
        lambda: {**SHORT, **CHUNKS, "image": picture()},
    ),
    Case(
        "HeliosPipeline",
        "video to video",
        helios,
        lambda: {**SHORT, **CHUNKS, "video": film(9)},
    ),
    Case("HeliosPyramidPipeline", "text to video", helios_pyramid, lambda: PYRAMID),
    Case(
        "HeliosPyramidPipeline",
        "text to video, distilled",
        lambda: helios_pyramid(distilled=True),
        lambda: {**PYRAMID, "guidance_scale": 1.0},
    ),
    Case(
        "HeliosPyramidPipeline",
        "image to video",
        helios_pyramid,
        lambda: {**PYRAMID, "image": picture(64)},
    ),
    Case("MotifVideoPipeline", "text to video", lambda: motif("MotifVideoPipeline"), lambda: SHORT),
    Case(
        "MotifVideoImage2VideoPipeline",
        "image to video",
        lambda: motif("MotifVideoImage2VideoPipeline"),
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "SanaVideoPipeline",
        "text to video",
        lambda: sana("SanaVideoPipeline"),
        lambda: SANA,
    ),
    Case(
        "SanaImageToVideoPipeline",
        "image to video",
        lambda: sana("SanaImageToVideoPipeline"),
        lambda: {**SANA, "image": picture()},
    ),
]
