"""Stable Diffusion 1 and 2, and what was made of them by their authors."""

import diffusers
import transformers as hf
from diffusers import DDPMScheduler, EulerDiscreteScheduler, LCMScheduler, PriorTransformer
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import checked, clip_pictures, clip_vision, sd
from tests.conformance.parts.samples import mask, picture
from tests.support.model_parts import clip, clip_tokenizer, unet

TEXT = {"prompt": "a cat", "negative_prompt": "a dog", "num_inference_steps": 3}
SIZED = {**TEXT, "height": 32, "width": 32}
IMAGE = {**TEXT, "image": picture(), "num_inference_steps": 4, "strength": 0.75}
PAINT = {**SIZED, "image": picture(), "mask_image": mask(), "strength": 0.8}


def lcm() -> Parts:
    return {**sd(time_cond_proj_dim=32), "scheduler": LCMScheduler()}


def depth() -> Parts:
    config = hf.DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=37,
        image_size=32,
        patch_size=8,
        is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
    )
    return {
        **sd(in_channels=5),
        "depth_estimator": hf.DPTForDepthEstimation(config).eval(),
        "feature_extractor": hf.DPTImageProcessor(size={"height": 32, "width": 32}),
    }


def variation() -> Parts:
    return {**sd(), "image_encoder": clip_vision(), "feature_extractor": clip_pictures()}


def upscale() -> Parts:
    parts = sd(in_channels=7, num_class_embeds=1000)
    parts["vae"].register_to_config(scaling_factor=0.08333)
    return {**parts, "low_res_scheduler": DDPMScheduler()}


def latent_upscale() -> Parts:
    """Its UNet is of another kind, and tells its noise by Fourier features."""
    model = unet(
        32,
        act_fn="gelu",
        attention_head_dim=8,
        norm_num_groups=None,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        time_cond_proj_dim=32 + 128,
        conv_in_kernel=1,
        conv_out_kernel=1,
        down_block_types=("KDownBlock2D", *["KCrossAttnDownBlock2D"] * 3),
        up_block_types=(*["KCrossAttnUpBlock2D"] * 3, "KUpBlock2D"),
        in_channels=8,
        out_channels=5,
        mid_block_type=None,
        only_cross_attention=False,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
    )
    return {**sd(), "unet": model, "scheduler": EulerDiscreteScheduler(prediction_type="sample")}


def unclip() -> Parts:
    """Its UNet takes the embedding of a picture, with noise."""
    parts = sd(class_embed_type="projection", projection_class_embeddings_input_dim=64)
    return {
        **parts,
        "image_normalizer": StableUnCLIPImageNormalizer(embedding_dim=32),
        "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    }


def unclip_prior() -> Parts:
    """A prior makes the embedding of a picture from the text."""
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1
    )
    return {
        **unclip(),
        "prior": prior,
        "prior_scheduler": diffusers.DDPMScheduler(
            variance_type="fixed_small_log",
            prediction_type="sample",
            clip_sample_range=5.0,
            beta_schedule="squaredcos_cap_v2",
        ),
        "prior_text_encoder": clip(projected=True),
        "prior_tokenizer": clip_tokenizer(),
    }


def unclip_variation() -> Parts:
    return {**unclip(), "image_encoder": clip_vision(), "feature_extractor": clip_pictures()}


CASES = [
    case("StableDiffusionPipeline", "text to image", checked, SIZED),
    case("StableDiffusionImg2ImgPipeline", "image to image", sd, IMAGE),
    case("StableDiffusionInpaintPipeline", "inpainting", lambda: sd(in_channels=9), PAINT),
    case("StableDiffusionInpaintPipeline", "inpainting with a text model", sd, PAINT),
    case("StableDiffusionDepth2ImgPipeline", "image to image by depth", depth, IMAGE),
    case(
        "StableDiffusionImageVariationPipeline",
        "variation",
        variation,
        {"image": picture(), "height": 32, "width": 32, "num_inference_steps": 3},
    ),
    case(
        "StableDiffusionInstructPix2PixPipeline",
        "edit",
        lambda: sd(in_channels=8),
        {**TEXT, "image": picture()},
    ),
    case("StableDiffusionUpscalePipeline", "upscaling", upscale, {**TEXT, "image": picture(0, 16)}),
    case(
        "StableDiffusionLatentUpscalePipeline",
        "upscaling",
        latent_upscale,
        {**TEXT, "image": picture(0, 64)},
    ),
    case("StableUnCLIPPipeline", "text to image", unclip_prior, {**SIZED, "noise_level": 5}),
    case(
        "StableUnCLIPImg2ImgPipeline",
        "variation",
        unclip_variation,
        {**SIZED, "image": picture(), "noise_level": 5},
    ),
    case(
        "LatentConsistencyModelPipeline",
        "text to image",
        lcm,
        {"prompt": "a cat", "height": 32, "width": 32, "num_inference_steps": 3},
    ),
    case(
        "LatentConsistencyModelImg2ImgPipeline",
        "image to image",
        lcm,
        {"prompt": "a cat", "image": picture(), "num_inference_steps": 4, "strength": 0.75},
    ),
]
