"""Stable Diffusion XL, and Kolors, which has its UNet."""

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import sdxl
from tests.conformance.parts.samples import mask, picture

TEXT = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}
UNSIZED = {"prompt": "a cat", "prompt_2": "in a tree", "num_inference_steps": 4, "strength": 0.75}
PAINT = {**TEXT, "image": picture(), "mask_image": mask(), "strength": 0.8}


def refiner() -> Parts:
    """The second text encoder alone, and a score of beauty in the place of a target size."""
    alone = {"text_encoder": None, "tokenizer": None, "requires_aesthetics_score": True}
    return {
        **sdxl(cross_attention_dim=32, projection_class_embeddings_input_dim=5 * 8 + 32),
        **alone,
    }


CASES = [
    case("StableDiffusionXLPipeline", "text to image", sdxl, {**TEXT, "prompt_2": "in a tree"}),
    case(
        "StableDiffusionXLImg2ImgPipeline",
        "image to image",
        sdxl,
        {**UNSIZED, "image": picture()},
    ),
    case(
        "StableDiffusionXLImg2ImgPipeline",
        "refining",
        refiner,
        {**UNSIZED, "image": picture()},
    ),
    case("StableDiffusionXLInpaintPipeline", "inpainting", lambda: sdxl(in_channels=9), PAINT),
    case("StableDiffusionXLInpaintPipeline", "inpainting with a text model", sdxl, PAINT),
    case(
        "StableDiffusionXLInstructPix2PixPipeline",
        "edit",
        lambda: sdxl(in_channels=8),
        {**TEXT, "image": picture()},
    ),
]
