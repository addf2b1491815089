"""SANA-WM: a world that a picture shows, seen by a camera that moves."""

from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SanaWMPipeline,
    SanaWMTransformer3DModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.footage import picture
from tests.conformance.parts.video_texts import gemma2
from tests.support.model_parts import byte_tokenizer
from tests.support.video_pipelines import ltx2


def sana_wm() -> DiffusionPipeline:
    vae = ltx2().vae
    transformer = SanaWMTransformer3DModel(
        in_channels=4,
        num_layers=2,
        hidden_size=48,
        num_attention_heads=2,
        softmax_every_n=2,
        linear_head_dim=24,
        chunk_plucker_channels=6 * vae.temporal_compression_ratio,
        chunk_plucker_post_attn_blocks=2,
        caption_channels=32,
        mixed_precision="fp32",
    )
    return SanaWMPipeline(
        tokenizer=byte_tokenizer(8192),
        text_encoder=gemma2(),
        vae=vae,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


WALK = {
    "image": picture(64),
    "prompt": "a red cat",
    "action": "w-8",
    "intrinsics": [60.0, 60.0, 32.0, 32.0],
    "height": 32,
    "width": 32,
    "num_frames": 9,
    "num_inference_steps": 2,
}
CASES = [Case("SanaWMPipeline", "image and action to video", sana_wm, lambda: WALK)]
