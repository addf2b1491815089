"""Stable Diffusion and SDXL with what steers them: ControlNets, T2I adapters."""

import inspect
from collections.abc import Callable
from typing import Any

from diffusers import (
    ControlNetUnionModel,
    ControlNetXSAdapter,
    MultiAdapter,
    MultiControlNetModel,
    T2IAdapter,
)

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import awake, controlnet, sd, sdxl
from tests.conformance.parts.samples import mask, picture

TEXT = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}
IMAGE = {**TEXT, "image": picture(), "control_image": picture(1), "strength": 0.7}
PAINT = {**IMAGE, "mask_image": mask()}
MODE = {"control_mode": 1}
UNION = inspect.signature(ControlNetUnionModel).parameters


def controlled(base: Callable[[], Parts]) -> Callable[[], Parts]:
    def parts() -> Parts:
        made = base()
        return {**made, "controlnet": controlnet(made["unet"])}

    return parts


def twice() -> Parts:
    """Two ControlNets."""
    made = sd()
    both = [controlnet(made["unet"]), controlnet(made["unet"])]
    return {**made, "controlnet": MultiControlNetModel(both)}


def union() -> Parts:
    """One ControlNet for several kinds of pictures."""
    made = sdxl()
    config = {k: v for k, v in made["unet"].config.items() if k in UNION}
    model = ControlNetUnionModel(
        **config,
        conditioning_embedding_out_channels=(8, 8, 16, 16),
        num_trans_channel=32,
        num_trans_head=4,
        num_proj_channel=32,
    )
    return {**made, "controlnet": awake(model)}


def crossing(base: Callable[[], Parts]) -> Callable[[], Parts]:
    """A ControlNet that exchanges what it knows with the UNet at each block."""

    def parts() -> Parts:
        made = base()
        adapter = ControlNetXSAdapter.from_unet(
            made["unet"], size_ratio=0.5, conditioning_embedding_out_channels=(8, 8, 16, 16)
        )
        return {**made, "controlnet": awake(adapter)}

    return parts


def adapted() -> Parts:
    """With a T2I adapter. What it adds has the size of the latents, so attention comes first."""
    model = sd(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    return {**model, "adapter": adapter()}


def adapter(**config: Any) -> T2IAdapter:
    known = {"channels": [32, 64], "num_res_blocks": 1, "downscale_factor": 8}
    return T2IAdapter(**known | config)


def adapted_twice() -> Parts:
    return {**adapted(), "adapter": MultiAdapter([adapter(), adapter()])}


def adapted_xl() -> Parts:
    model = adapter(adapter_type="full_adapter_xl", downscale_factor=16)
    return {**sdxl(), "adapter": model}


CASES = [
    case(
        "StableDiffusionControlNetPipeline",
        "text to image",
        controlled(sd),
        {**TEXT, "image": picture()},
    ),
    case(
        "StableDiffusionControlNetPipeline",
        "two ControlNets",
        twice,
        {
            **TEXT,
            "image": [picture(), picture(1)],
            "controlnet_conditioning_scale": [0.5, 0.8],
            "control_guidance_start": [0.0, 0.4],
        },
    ),
    case("StableDiffusionControlNetImg2ImgPipeline", "image to image", controlled(sd), IMAGE),
    case("StableDiffusionControlNetInpaintPipeline", "inpainting", controlled(sd), PAINT),
    case(
        "StableDiffusionXLControlNetPipeline",
        "text to image",
        controlled(sdxl),
        {**TEXT, "image": picture(), "control_guidance_end": 0.5},
    ),
    case("StableDiffusionXLControlNetImg2ImgPipeline", "image to image", controlled(sdxl), IMAGE),
    case("StableDiffusionXLControlNetInpaintPipeline", "inpainting", controlled(sdxl), PAINT),
    case(
        "StableDiffusionXLControlNetUnionPipeline",
        "text to image",
        union,
        {**TEXT, **MODE, "control_image": picture()},
    ),
    case(
        "StableDiffusionXLControlNetUnionImg2ImgPipeline",
        "image to image",
        union,
        {**IMAGE, **MODE},
    ),
    case("StableDiffusionXLControlNetUnionInpaintPipeline", "inpainting", union, {**PAINT, **MODE}),
    case(
        "StableDiffusionControlNetXSPipeline",
        "text to image",
        crossing(sd),
        {**TEXT, "image": picture()},
    ),
    case(
        "StableDiffusionXLControlNetXSPipeline",
        "text to image",
        crossing(sdxl),
        {**TEXT, "image": picture()},
    ),
    case(
        "StableDiffusionAdapterPipeline",
        "text to image",
        adapted,
        {**TEXT, "image": picture()},
    ),
    case(
        "StableDiffusionAdapterPipeline",
        "two adapters",
        adapted_twice,
        {**TEXT, "image": [picture(), picture(1)], "adapter_conditioning_scale": [0.5, 0.8]},
    ),
    case(
        "StableDiffusionXLAdapterPipeline",
        "text to image",
        adapted_xl,
        {**TEXT, "image": picture()},
    ),
]
