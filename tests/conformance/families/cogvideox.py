"""CogVideoX."""

from typing import Any

import diffusers
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDPMScheduler,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    DiffusionPipeline,
)

from tests.conformance.case import Absent, Case
from tests.conformance.parts.footage import BOTH, film, picture
from tests.support.model_parts import byte_tokenizer, t5


def cogvideox(name: str, channels: int = 4, scheduler: Any = None, **config: Any) -> Any:
    """`channels`: of latents that the transformer sees."""
    transformer = CogVideoXTransformer3DModel(
        **{
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": channels,
            "out_channels": 4,
            "time_embed_dim": 2,
            "text_embed_dim": 32,
            "num_layers": 1,
            "sample_width": 4,
            "sample_height": 4,
            "sample_frames": 9,
            "max_text_seq_length": 16,
            "use_rotary_positional_embeddings": True,
            **config,
        }
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    return getattr(diffusers, name)(
        tokenizer=byte_tokenizer(226),
        text_encoder=t5(),
        vae=vae,
        transformer=transformer,
        scheduler=scheduler or DDIMScheduler(),
    )


def image_to_video() -> DiffusionPipeline:
    return cogvideox("CogVideoXImageToVideoPipeline", 8, use_learned_positional_embeddings=True)


SHORT = {**BOTH, "num_frames": 9, "max_sequence_length": 16}
DRIVEN = {name: value for name, value in SHORT.items() if name != "num_frames"}
CASES = [
    Case(
        "CogVideoXPipeline",
        "text to video",
        lambda: cogvideox("CogVideoXPipeline"),
        lambda: SHORT,
    ),
    Case(
        "CogVideoXPipeline",
        "text to video, DPM scheduler",
        lambda: cogvideox("CogVideoXPipeline", scheduler=CogVideoXDPMScheduler()),
        lambda: SHORT,
    ),
    Case(
        "CogVideoXImageToVideoPipeline",
        "image to video",
        image_to_video,
        lambda: {**SHORT, "image": picture()},
    ),
    Case(
        "CogVideoXVideoToVideoPipeline",
        "video to video",
        lambda: cogvideox("CogVideoXVideoToVideoPipeline"),
        lambda: {**DRIVEN, "video": film(9)},
    ),
    Case(
        "CogVideoXFunControlPipeline",
        "control video to video",
        lambda: cogvideox("CogVideoXFunControlPipeline", 8),
        lambda: {**DRIVEN, "control_video": film(9)},
    ),
]
ABSENT = [Absent("ConsisIDPipeline", "its helpers find faces with OpenCV, which is not installed")]
