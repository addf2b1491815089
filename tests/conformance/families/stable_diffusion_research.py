"""What researchers made of Stable Diffusion: other ways of guidance, of layout, of editing."""

import transformers as hf
from diffusers import DDIMParallelScheduler, DDIMScheduler
from diffusers.pipelines.stable_diffusion import CLIPImageProjection

from tests.conformance.case import Absent
from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import clip_pictures, clip_vision, sd
from tests.conformance.parts.samples import picture
from tests.support.model_parts import SD_BETAS, clip_tokenizer

TEXT = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}
BOXES = {"gligen_phrases": ["a cat"], "gligen_boxes": [[0.1, 0.2, 0.6, 0.9]]}


def cycle() -> Parts:
    """Its last step has to have a variance."""
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **SD_BETAS)
    return {**sd(), "scheduler": scheduler}


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
    case("StableDiffusionModelEditingPipeline", "text to image", sd, TEXT),
    case(
        "StableDiffusionPanoramaPipeline",
        "text to image",
        sd,
        {**TEXT, "width": 576},
    ),
    case(
        "StableDiffusionParadigmsPipeline",
        "text to image",
        parallel,
        {**TEXT, "parallel": 2},
    ),
    case(
        "StableDiffusionSAGPipeline",
        "text to image",
        sd,
        {**TEXT, "height": 64, "width": 64, "sag_scale": 0.7},
    ),
]

ABSENT = [
    Absent(
        "StableDiffusionLDM3DPipeline",
        "diffusers 0.42.1 makes no pictures of its depths with the pinned Pillow: "
        'Image.fromarray(depth, mode="I;16") of its VaeImageProcessorLDM3D raises "Invalid mode '
        'for data type", for the depths are uint8',
    ),
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
