"""AnimateDiff and PIA: Stable Diffusion with a motion adapter, which makes films of it."""

from collections.abc import Callable

from diffusers import DDIMScheduler, MotionAdapter, SparseControlNetModel

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import awake, controlnet, sd, sdxl
from tests.conformance.parts.samples import film, picture
from tests.support.model_parts import SD_BETAS

TEXT = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "height": 32,
    "width": 32,
    "num_frames": 5,
    "num_inference_steps": 3,
}
FILM = {
    "prompt": "a cat",
    "video": film(),
    "num_inference_steps": 4,
    "strength": 0.75,
}


SOME = {**TEXT, "conditioning_frames": film(2), "controlnet_frame_indices": [0, 3]}


def moving(base: Callable[..., Parts] = sd, **config: object) -> Callable[[], Parts]:
    """`config`: of the adapter."""

    def parts() -> Parts:
        adapter = MotionAdapter(
            **{
                "block_out_channels": (32, 64),
                "motion_layers_per_block": 1,
                "motion_norm_num_groups": 2,
                "motion_num_attention_heads": 4,
                **config,
            }
        )
        return {**base(layers_per_block=1), "motion_adapter": awake(adapter)}

    return parts


def moving_xl() -> Parts:
    parts = moving(sdxl, use_motion_mid_block=False)()
    return {**parts, "scheduler": DDIMScheduler(clip_sample=False, **SD_BETAS)}


def controlled() -> Parts:
    parts = moving()()
    return {**parts, "controlnet": controlnet(parts["unet"])}


def sparse(**config: object) -> Parts:
    """Its ControlNet is shown some of the frames, as pictures or as their latents."""
    model = SparseControlNetModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        in_channels=4,
        down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion"),
        cross_attention_dim=32,
        conditioning_embedding_out_channels=(8, 8, 16, 16),
        norm_num_groups=8,
        **config,
    )
    return {**moving()(), "controlnet": awake(model)}


def latent_sparse() -> Parts:
    return sparse(conditioning_channels=4, use_simplified_condition_embedding=True)


def sketched() -> Parts:
    return sparse(conditioning_channels=3, use_simplified_condition_embedding=False)


def pia() -> Parts:
    return {**moving(conv_in_channels=9)()}


CASES = [
    case("AnimateDiffPipeline", "text to video", moving(), TEXT),
    case("AnimateDiffPAGPipeline", "text to video", moving(), {**TEXT, "pag_scale": 3.0}),
    case("AnimateDiffSDXLPipeline", "text to video", moving_xl, TEXT),
    case(
        "AnimateDiffControlNetPipeline",
        "video to video",
        controlled,
        {**TEXT, "conditioning_frames": film()},
    ),
    case("AnimateDiffSparseControlNetPipeline", "frames to video", latent_sparse, SOME),
    case("AnimateDiffSparseControlNetPipeline", "sketches to video", sketched, SOME),
    case("AnimateDiffVideoToVideoPipeline", "video to video", moving(), FILM),
    case(
        "AnimateDiffVideoToVideoControlNetPipeline",
        "video to video",
        controlled,
        {**FILM, "conditioning_frames": film()},
    ),
    case("PIAPipeline", "image to video", pia, {**TEXT, "image": picture(), "strength": 0.9}),
]
