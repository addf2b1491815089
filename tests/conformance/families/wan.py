"""Wan 2.1 and 2.2, and what edits with their transformer."""

from typing import Any

import diffusers
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanAnimateTransformer3DModel,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.footage import BOTH, film, mask_film, picture
from tests.conformance.parts.video_vaes import wan_vae
from tests.conformance.parts.vision import clip_processor, clip_vision
from tests.support.model_parts import byte_tokenizer, t5

SHORT = {**BOTH, "max_sequence_length": 32}
SIZES = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}


def text_parts() -> dict[str, Any]:
    """What every pipeline of the family has beside its transformer."""
    return {
        "tokenizer": byte_tokenizer(512),
        "text_encoder": t5(umt5=True),
        "vae": wan_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
    }


def wan(name: str, transformer: Any = None, **parts: Any) -> DiffusionPipeline:
    transformer = transformer or WanTransformer3DModel(**SIZES)
    return getattr(diffusers, name)(**{**text_parts(), "transformer": transformer, **parts})


def image_to_video() -> DiffusionPipeline:
    """2.1: a vision encoder beside the latents of the first frame."""
    transformer = WanTransformer3DModel(**{**SIZES, "in_channels": 36}, image_dim=16)
    eyes = {"image_encoder": clip_vision(), "image_processor": clip_processor()}
    return wan("WanImageToVideoPipeline", transformer, **eyes)


def first_and_last() -> DiffusionPipeline:
    sizes = {**SIZES, "in_channels": 36, "image_dim": 16, "pos_embed_seq_len": 2 * 17}
    eyes = {"image_encoder": clip_vision(), "image_processor": clip_processor()}
    return wan("WanImageToVideoPipeline", WanTransformer3DModel(**sizes), **eyes)


def image_to_video_22() -> DiffusionPipeline:
    """2.2: two transformers, and no vision encoder."""
    sizes = {**SIZES, "in_channels": 36}
    second = WanTransformer3DModel(**sizes)
    pair = {"transformer_2": second, "boundary_ratio": 0.9}
    return wan("WanImageToVideoPipeline", WanTransformer3DModel(**sizes), **pair)


def small_22(name: str = "WanPipeline") -> DiffusionPipeline:
    """2.2 5B: a timestep for each token."""
    return wan(name, expand_timesteps=True)


def text_to_video_22() -> DiffusionPipeline:
    second = WanTransformer3DModel(**SIZES)
    return wan("WanPipeline", transformer_2=second, boundary_ratio=0.9)


def vace() -> DiffusionPipeline:
    sizes = {**SIZES, "vace_layers": [0, 1], "vace_in_channels": 96}
    return wan("WanVACEPipeline", WanVACETransformer3DModel(**sizes))


def animate() -> DiffusionPipeline:
    transformer = WanAnimateTransformer3DModel(
        **{**SIZES, "in_channels": 36},
        latent_channels=16,
        image_dim=16,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    return wan(
        "WanAnimatePipeline",
        transformer,
        image_encoder=clip_vision(),
        image_processor=clip_processor(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0
        ),
    )


def lucy() -> DiffusionPipeline:
    return wan("LucyEditPipeline", WanTransformer3DModel(**{**SIZES, "in_channels": 32}))


DRIVEN = {
    "image": picture(),
    "pose_video": film(5),
    "face_video": film(5, 16),
    "prompt": "a cat dances",
    "height": 32,
    "width": 32,
    "segment_frame_length": 5,
    "num_inference_steps": 2,
    "max_sequence_length": 32,
}
CASES = [
    Case("WanPipeline", "text to video", lambda: wan("WanPipeline"), lambda: SHORT),
    Case("WanPipeline", "text to video, two transformers", text_to_video_22, lambda: SHORT),
    Case("WanPipeline", "text to video, a timestep per token", small_22, lambda: SHORT),
    Case(
        "WanImageToVideoPipeline",
        "image to video",
        image_to_video,
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "WanImageToVideoPipeline",
        "first and last frame to video",
        first_and_last,
        lambda: {**SHORT, "image": picture(), "last_image": picture(seed=1)},
    ),
    Case(
        "WanImageToVideoPipeline",
        "image to video, two transformers",
        image_to_video_22,
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "WanImageToVideoPipeline",
        "image to video, a timestep per token",
        lambda: small_22("WanImageToVideoPipeline"),
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "WanVideoToVideoPipeline",
        "video to video",
        lambda: wan("WanVideoToVideoPipeline"),
        lambda: {
            **{name: value for name, value in SHORT.items() if name != "num_frames"},
            "video": film(5),
            "strength": 0.9,
        },
    ),
    Case("WanVACEPipeline", "text to video", vace, lambda: SHORT),
    Case(
        "WanVACEPipeline",
        "video and mask to video",
        vace,
        lambda: {**SHORT, "video": film(5), "mask": mask_film(5)},
    ),
    Case(
        "WanVACEPipeline",
        "pictures to video",
        vace,
        lambda: {**SHORT, "reference_images": [picture(), picture(seed=1)]},
    ),
    Case("WanAnimatePipeline", "animate a picture", animate, lambda: DRIVEN),
    Case(
        "WanAnimatePipeline",
        "replace in a video",
        animate,
        lambda: {
            **DRIVEN,
            "mode": "replace",
            "background_video": film(5, seed=9),
            "mask_video": mask_film(5),
        },
    ),
    Case("LucyEditPipeline", "edit a video", lucy, lambda: {**SHORT, "video": film(5)}),
]
