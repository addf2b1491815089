"""Models that make videos, with sound or without, and sounds alone."""

from collections.abc import Mapping
from typing import Any

import diffusers
import transformers as hf
from diffusers import ClassifierFreeGuidance, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.cosmos import pipeline_cosmos2_text2image
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from diffusers.pipelines.stable_audio import StableAudioProjectionModel

from benchmarks.hops import autoencoders, texts
from benchmarks.hops.family import Family
from benchmarks.hops.hollow import model
from benchmarks.hops.images import DEFAULTS, PUBLISHED, SCRIPT
from benchmarks.hops.words import words
from tests.conformance.parts.guardrail import Guardrail, unguarded

HD = {"width": 1280, "height": 720, "num_frames": 81}
HD_ASKED = "81 frames of 1280x720"
FIRST = {"image": (1280, 720)}


def _flow(**config: Any) -> Any:
    return FlowMatchEulerDiscreteScheduler(**config)


def _wan(pair: bool = False, **config: Any) -> dict[str, Any]:
    """14B. `pair`: 2.2's, one transformer for much noise and one for little."""
    second = model(diffusers.WanTransformer3DModel, **config) if pair else None
    return {
        "text_encoder": texts.umt5_xxl(),
        "tokenizer": words(512),
        "transformer": model(diffusers.WanTransformer3DModel, **config),
        "transformer_2": second,
        "boundary_ratio": 0.875 if pair else None,
        "vae": model(diffusers.AutoencoderKLWan),
        "scheduler": _flow(shift=5.0),
    }


def _wan21_i2v() -> Mapping[str, Any]:
    parts = _wan(in_channels=36, image_dim=1280, added_kv_proj_dim=5120)
    return {
        **parts,
        "image_encoder": texts.clip_h_eyes(),
        "image_processor": hf.CLIPImageProcessorPil(),
    }


def _wan22_i2v() -> Mapping[str, Any]:
    eyes = {"image_encoder": None, "image_processor": None}
    return {**_wan(pair=True, in_channels=36), **eyes}


def _wan22_small() -> Mapping[str, Any]:
    sizes = {
        "num_layers": 30,
        "num_attention_heads": 24,
        "ffn_dim": 14336,
        "in_channels": 48,
        "out_channels": 48,
    }
    return {**_wan(**sizes), "vae": autoencoders.wan22(), "expand_timesteps": True}


def _hunyuan() -> Mapping[str, Any]:
    return {
        "text_encoder": texts.llama(),
        "tokenizer": words(256),
        **texts.with_clip("_2"),
        "transformer": model(diffusers.HunyuanVideoTransformer3DModel),
        "vae": model(diffusers.AutoencoderKLHunyuanVideo),
        "scheduler": _flow(shift=7.0),
    }


def _hunyuan15() -> Mapping[str, Any]:
    transformer = model(
        diffusers.HunyuanVideo15Transformer3DModel, target_size=960, task_type="t2v"
    )
    return {
        "text_encoder": texts.qwen_vl_words(),
        "tokenizer": words(32768),
        **texts.with_t5("_2", "glyphs"),
        "transformer": transformer,
        "vae": model(diffusers.AutoencoderKLHunyuanVideo15),
        "scheduler": _flow(shift=9.0),
        "guider": ClassifierFreeGuidance(guidance_scale=6.0),
    }


def _ltx() -> Mapping[str, Any]:
    return {
        **texts.with_t5(),
        "transformer": model(diffusers.LTXVideoTransformer3DModel),
        "vae": model(diffusers.AutoencoderKLLTXVideo),
        "scheduler": _flow(use_dynamic_shifting=True),
    }


def _ltx2() -> Mapping[str, Any]:
    return {
        "text_encoder": texts.gemma3(),
        "tokenizer": words(1024),
        "connectors": model(LTX2TextConnectors),
        "transformer": model(diffusers.LTX2VideoTransformer3DModel),
        "vae": model(diffusers.AutoencoderKLLTX2Video),
        "audio_vae": model(diffusers.AutoencoderKLLTX2Audio),
        "vocoder": model(LTX2Vocoder),
        "scheduler": _flow(use_dynamic_shifting=True),
    }


def _cogvideox() -> Mapping[str, Any]:
    transformer = model(
        diffusers.CogVideoXTransformer3DModel,
        num_layers=42,
        num_attention_heads=48,
        use_rotary_positional_embeddings=True,
    )
    return {
        **texts.with_t5(),
        "transformer": transformer,
        "vae": model(diffusers.AutoencoderKLCogVideoX, scaling_factor=0.7),
        "scheduler": diffusers.CogVideoXDPMScheduler(),
    }


def _mochi() -> Mapping[str, Any]:
    return {
        **texts.with_t5(),
        "transformer": model(diffusers.MochiTransformer3DModel),
        "vae": model(diffusers.AutoencoderKLMochi),
        "scheduler": _flow(invert_sigmas=True),
    }


def _cosmos2() -> Mapping[str, Any]:
    transformer = model(
        diffusers.CosmosTransformer3DModel,
        num_attention_heads=40,
        num_layers=36,
        rope_scale=(1.0, 4.0, 4.0),
        extra_pos_embed_type=None,
    )
    return {
        **texts.with_t5(kind="11b"),
        "transformer": transformer,
        "vae": model(diffusers.AutoencoderKLWan),
        "scheduler": _flow(use_karras_sigmas=True),
    }


def _unguarded(**parts: Any) -> Any:
    """Cosmos without its guardrail, which is a package of its own."""
    made = unguarded(pipeline_cosmos2_text2image, "Cosmos2TextToImagePipeline", **parts)
    made.__dict__["safety_checker"] = Guardrail()
    return made


def _kandinsky5(size: str) -> Mapping[str, Any]:
    lite = {"model_dim": 1792, "ff_dim": 7168, "axes_dims": (16, 24, 24)}
    pro = {
        "model_dim": 4096,
        "ff_dim": 16384,
        "axes_dims": (32, 48, 48),
        "time_dim": 1024,
        "num_text_blocks": 4,
        "num_visual_blocks": 60,
    }
    transformer = model(
        diffusers.Kandinsky5Transformer3DModel,
        **(lite if size == "lite" else pro),
        in_visual_dim=16,
        out_visual_dim=16,
        visual_cond=True,
    )
    return {
        **texts.with_qwen_vl("Qwen2_5_VLProcessor"),
        **texts.with_clip("_2"),
        "transformer": transformer,
        "vae": model(diffusers.AutoencoderKLHunyuanVideo),
        "scheduler": _flow(shift=5.0),
    }


def _stable_audio() -> Mapping[str, Any]:
    projection = model(
        StableAudioProjectionModel,
        text_encoder_dim=768,
        conditioning_dim=768,
        min_value=0,
        max_value=512,
    )
    return {
        "text_encoder": texts.t5("base"),
        "tokenizer": words(128),
        "projection_model": projection,
        "transformer": model(diffusers.StableAudioDiTModel),
        "vae": model(diffusers.AutoencoderOobleck),
        "scheduler": diffusers.EDMDPMSolverMultistepScheduler(),
    }


FAMILIES = [
    Family("Wan 2.1 T2V 14B", "WanPipeline", _wan, HD, HD_ASKED, SCRIPT),
    Family(
        "Wan 2.1 I2V 14B",
        "WanImageToVideoPipeline",
        _wan21_i2v,
        HD,
        f"{HD_ASKED} from a picture",
        SCRIPT,
        FIRST,
    ),
    Family("Wan 2.2 T2V A14B", "WanPipeline", lambda: _wan(pair=True), HD, HD_ASKED, SCRIPT),
    Family(
        "Wan 2.2 I2V A14B",
        "WanImageToVideoPipeline",
        _wan22_i2v,
        HD,
        f"{HD_ASKED} from a picture",
        SCRIPT,
        FIRST,
    ),
    Family(
        "Wan 2.2 TI2V 5B",
        "WanPipeline",
        _wan22_small,
        {"width": 1280, "height": 704, "num_frames": 121},
        "121 frames of 1280x704",
        SCRIPT,
    ),
    Family(
        "HunyuanVideo",
        "HunyuanVideoPipeline",
        _hunyuan,
        {**HD, "num_frames": 129},
        "129 frames of 1280x720",
        DEFAULTS,
    ),
    Family(
        "HunyuanVideo 1.5",
        "HunyuanVideo15Pipeline",
        _hunyuan15,
        {**HD, "num_frames": 121},
        "121 frames of 1280x720",
        SCRIPT,
    ),
    Family(
        "LTX-Video 2B",
        "LTXPipeline",
        _ltx,
        {"width": 704, "height": 512, "num_frames": 161},
        "161 frames of 704x512",
        DEFAULTS,
    ),
    Family(
        "LTX-2",
        "LTX2Pipeline",
        _ltx2,
        {"width": 768, "height": 512, "num_frames": 121},
        "121 frames of 768x512 with sound",
        DEFAULTS,
    ),
    Family(
        "CogVideoX 5B",
        "CogVideoXPipeline",
        _cogvideox,
        {"width": 720, "height": 480, "num_frames": 49},
        "49 frames of 720x480",
        PUBLISHED,
    ),
    Family(
        "Mochi 1",
        "MochiPipeline",
        _mochi,
        {"width": 848, "height": 480, "num_frames": 85},
        "85 frames of 848x480",
        DEFAULTS,
    ),
    Family(
        "Kandinsky 5 T2V Lite",
        "Kandinsky5T2VPipeline",
        lambda: _kandinsky5("lite"),
        {"width": 768, "height": 512, "num_frames": 121},
        "121 frames of 768x512",
        PUBLISHED,
    ),
    Family(
        "Kandinsky 5 T2V Pro",
        "Kandinsky5T2VPipeline",
        lambda: _kandinsky5("pro"),
        {"width": 1280, "height": 768, "num_frames": 121},
        "121 frames of 1280x768",
        PUBLISHED,
    ),
    Family(
        "Cosmos Predict 2 14B",
        _unguarded,
        _cosmos2,
        {"width": 1360, "height": 768},
        "1360x768",
        SCRIPT,
    ),
    Family(
        "Stable Audio Open",
        "StableAudioPipeline",
        _stable_audio,
        {"audio_end_in_s": 47.0},
        "47 s of stereo",
        DEFAULTS,
    ),
]
