"""What researchers made of Stable Diffusion: other ways of guidance, of layout, of editing."""

import transformers as hf
from diffusers import DDIMParallelScheduler, DDIMScheduler
from diffusers.pipelines.deprecated.alt_diffusion.modeling_roberta_series import (
    RobertaSeriesConfig,
    RobertaSeriesModelWithTransformation,
)
from diffusers.pipelines.deprecated.paint_by_example import PaintByExampleImageEncoder
from diffusers.pipelines.stable_diffusion import CLIPImageProjection

from tests.conformance.case import Absent
from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import clip_pictures, clip_vision, sd
from tests.conformance.parts.samples import mask, picture
from tests.support.model_parts import SD_BETAS, byte_tokenizer, clip_tokenizer, vae

TEXT = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}
BOXES = {"gligen_phrases": ["a cat"], "gligen_boxes": [[0.1, 0.2, 0.6, 0.9]]}


def alt() -> Parts:
    """With a text encoder of many languages."""
    config = RobertaSeriesConfig(
        hidden_size=32,
        project_dim=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=3,
        vocab_size=512,
        pad_token_id=1,
    )
    encoder = RobertaSeriesModelWithTransformation(config).eval()
    return {**sd(), "text_encoder": encoder, "tokenizer": byte_tokenizer(77)}


def cycle() -> Parts:
    """Its last step has to have a variance."""
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **SD_BETAS)
    return {**sd(), "scheduler": scheduler}


def ldm3d() -> Parts:
    """Its VAE decodes a picture and its depth."""
    return {**sd(), "vae": vae(in_channels=6, out_channels=6)}


def example() -> Parts:
    """It takes a picture in the place of a text."""
    config = hf.CLIPVisionConfig(
        hidden_size=32,
        projection_dim=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=5,
        image_size=32,
        patch_size=8,
    )
    encoder = PaintByExampleImageEncoder(config, proj_size=32).eval()
    return {**sd(in_channels=9), "image_encoder": encoder, "feature_extractor": clip_pictures()}


def parallel() -> Parts:
    """Several steps at once."""
    return {**sd(), "scheduler": DDIMParallelScheduler(clip_sample=False, **SD_BETAS)}


def gligen() -> Parts:
    return sd(attention_type="gated")


def gligen_pictures() -> Parts:
    pictures = clip_pictures()
    return {
        **sd(attention_type="gated-text-image"),
        "processor": hf.CLIPProcessor(pictures, clip_tokenizer()),
        "image_encoder": clip_vision(),
        "image_project": CLIPImageProjection(hidden_size=32),
    }


CASES = [
    case("AltDiffusionPipeline", "text to image", alt, TEXT),
    case(
        "AltDiffusionImg2ImgPipeline",
        "image to image",
        alt,
        {"prompt": "a cat", "image": picture(), "num_inference_steps": 4, "strength": 0.75},
    ),
    case(
        "CycleDiffusionPipeline",
        "image to image",
        cycle,
        {
            "prompt": "a cat",
            "source_prompt": "a dog",
            "image": picture(),
            "num_inference_steps": 4,
            "strength": 0.75,
        },
    ),
    case(
        "PaintByExamplePipeline",
        "inpainting by example",
        example,
        {
            "image": picture(),
            "mask_image": mask(),
            "example_image": picture(1),
            "height": 32,
            "width": 32,
            "num_inference_steps": 3,
        },
    ),
    case(
        "SemanticStableDiffusionPipeline",
        "text to image",
        sd,
        {
            **TEXT,
            "editing_prompt": "smiling",
            "edit_warmup_steps": 1,
            "edit_guidance_scale": 5.0,
        },
    ),
    case(
        "StableDiffusionAttendAndExcitePipeline",
        "text to image",
        sd,
        {**TEXT, "token_indices": [1, 3], "max_iter_to_alter": 2, "attn_res": [2, 2]},
    ),
    case(
        "StableDiffusionGLIGENPipeline",
        "text and boxes to image",
        gligen,
        {**TEXT, **BOXES},
    ),
    case(
        "StableDiffusionGLIGENTextImagePipeline",
        "text, boxes and images to image",
        gligen_pictures,
        {**TEXT, **BOXES, "gligen_images": [picture()]},
    ),
    case("StableDiffusionLDM3DPipeline", "text to image and depth", ldm3d, TEXT),
    case("StableDiffusionModelEditingPipeline", "text to image", sd, TEXT),
    case(
        "StableDiffusionPanoramaPipeline",
        "text to image",
        sd,
        {**TEXT, "width": 544, "height": 512, "num_inference_steps": 1},
    ),
    case(
        "StableDiffusionParadigmsPipeline",
        "text to image",
        parallel,
        {**TEXT, "parallel": 2},
    ),
    case("StableDiffusionSAGPipeline", "text to image", sd, {**TEXT, "sag_scale": 0.7}),
]

ABSENT = [
    Absent(
        "StableDiffusionDiffEditPipeline",
        "it wants image_latents, which its own invert() makes: no request brings tensors",
    ),
    Absent(
        "StableDiffusionPix2PixZeroPipeline",
        "it wants source_embeds and target_embeds, which its own get_embeds() makes: no request "
        "brings tensors",
    ),
]
