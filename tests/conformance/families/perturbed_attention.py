"""The pipelines with perturbed attention guidance, of SD, SDXL and Kolors."""

from tests.conformance.families.controlnet import controlled
from tests.conformance.parts.fitting import case
from tests.conformance.parts.latent_diffusion import sd, sdxl
from tests.conformance.parts.samples import mask, picture

TEXT = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "num_inference_steps": 3,
    "pag_scale": 3.0,
    "pag_adaptive_scale": 0.1,
}
SIZED = {**TEXT, "height": 32, "width": 32}
IMAGE = {**TEXT, "image": picture(), "strength": 0.7}
PAINT = {**SIZED, "image": picture(), "mask_image": mask(), "strength": 0.7}
CONTROL = {**SIZED, "image": picture()}

CASES = [
    case("StableDiffusionPAGPipeline", "text to image", sd, SIZED),
    case("StableDiffusionPAGImg2ImgPipeline", "image to image", sd, IMAGE),
    case("StableDiffusionPAGInpaintPipeline", "inpainting", sd, PAINT),
    case("StableDiffusionControlNetPAGPipeline", "text to image", controlled(sd), CONTROL),
    case(
        "StableDiffusionControlNetPAGInpaintPipeline",
        "inpainting",
        controlled(sd),
        {**PAINT, "control_image": picture(1)},
    ),
    case("StableDiffusionXLPAGPipeline", "text to image", sdxl, SIZED),
    case("StableDiffusionXLPAGImg2ImgPipeline", "image to image", sdxl, IMAGE),
    case("StableDiffusionXLPAGInpaintPipeline", "inpainting", sdxl, PAINT),
    case("StableDiffusionXLControlNetPAGPipeline", "text to image", controlled(sdxl), CONTROL),
    case(
        "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        "image to image",
        controlled(sdxl),
        {**SIZED, "image": picture(), "control_image": picture(1), "strength": 0.7},
    ),
]
