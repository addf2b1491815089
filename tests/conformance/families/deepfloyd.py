"""DeepFloyd IF: it works on pixels, in stages that follow each other."""

import torch
from diffusers import DDPMScheduler
from diffusers.pipelines.deepfloyd_if import IFWatermarker

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.samples import mask, picture
from tests.support.model_parts import byte_tokenizer, t5, unet

TEXT = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "num_inference_steps": 3,
    "clean_caption": False,
}
IMAGE = {**TEXT, "image": picture(), "strength": 0.7}
BETAS = {"beta_schedule": "squaredcos_cap_v2"}


def base(**config: object) -> Parts:
    """The first stage."""
    model = unet(
        32,
        **{
            "sample_size": 32,
            "layers_per_block": 1,
            "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "in_channels": 3,
            "out_channels": 6,
            "encoder_hid_dim": 32,
            "attention_head_dim": 8,
            "addition_embed_type": "text",
            "addition_embed_type_num_heads": 2,
            "cross_attention_norm": "group_norm",
            "resnet_time_scale_shift": "scale_shift",
            "act_fn": "gelu",
            **config,
        },
    )
    watermarker = IFWatermarker()
    watermarker.watermark_image = torch.randint(0, 256, (62, 62, 4)).float()
    return {
        "tokenizer": byte_tokenizer(77),
        "text_encoder": t5(),
        "unet": model,
        "scheduler": DDPMScheduler(
            thresholding=True,
            dynamic_thresholding_ratio=0.95,
            variance_type="learned_range",
            **BETAS,
        ),
        "image_noising_scheduler": DDPMScheduler(**BETAS),
        "watermarker": watermarker,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def upscaler() -> Parts:
    """The second stage, which makes pictures larger."""
    return base(in_channels=6, class_embed_type="timestep", mid_block_scale_factor=1.414)


CASES = [
    case("IFPipeline", "text to image", base, {**TEXT, "height": 32, "width": 32}),
    case("IFImg2ImgPipeline", "image to image", base, IMAGE),
    case("IFInpaintingPipeline", "inpainting", base, {**IMAGE, "mask_image": mask()}),
    case(
        "IFSuperResolutionPipeline",
        "upscaling",
        upscaler,
        {**TEXT, "image": picture(0, 16), "height": 32, "width": 32},
    ),
    case(
        "IFImg2ImgSuperResolutionPipeline",
        "upscaling",
        upscaler,
        {**IMAGE, "image": picture(0, 16), "original_image": picture()},
    ),
    case(
        "IFInpaintingSuperResolutionPipeline",
        "upscaling",
        upscaler,
        {
            **IMAGE,
            "image": picture(0, 16),
            "original_image": picture(),
            "mask_image": mask(),
        },
    ),
]
