"""Films by UNets: Stable Video Diffusion, I2VGen-XL, ModelScope; and by Stable Diffusion alone."""

from diffusers import (
    AutoencoderKLTemporalDecoder,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.unets import I2VGenXLUNet

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import checked, clip_pictures, clip_vision, sd, sdxl
from tests.conformance.parts.samples import film, picture
from tests.support.model_parts import SD_BETAS, clip, clip_tokenizer, vae

TEXT = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "height": 32,
    "width": 32,
    "num_inference_steps": 3,
}
ZERO = {**TEXT, "video_length": 3, "t0": 1, "t1": 2, "num_inference_steps": 4}


def stable_video() -> Parts:
    model = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    )
    decoder = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
    )
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_spacing="leading",
        timestep_type="continuous",
        sigma_min=0.002,
        sigma_max=700.0,
        use_karras_sigmas=True,
        **SD_BETAS,
    )
    return {
        "unet": model,
        "vae": decoder,
        "scheduler": scheduler,
        "image_encoder": clip_vision(side=224),  # its pipeline makes pictures of that size
        "feature_extractor": clip_pictures(224),
    }


def i2vgen() -> Parts:
    model = I2VGenXLUNet(
        block_out_channels=(32, 32),
        layers_per_block=1,
        sample_size=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    return {
        "unet": model,
        "vae": vae(),
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(),
        "image_encoder": clip_vision(),
        "feature_extractor": clip_pictures(),
        "scheduler": DDIMScheduler(clip_sample=False, set_alpha_to_one=False),
    }


def modelscope() -> Parts:
    model = UNet3DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        sample_size=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    return {**sd(), "unet": model}


CASES = [
    case(
        "StableVideoDiffusionPipeline",
        "image to video",
        stable_video,
        {
            "image": picture(),
            "height": 32,
            "width": 32,
            "num_frames": 4,
            "num_inference_steps": 3,
            "decode_chunk_size": 2,
        },
    ),
    case(
        "I2VGenXLPipeline",
        "image to video",
        i2vgen,
        {**TEXT, "image": picture(), "num_frames": 4, "clip_skip": None},
        quirk="with the pinned transformers its own default, clip_skip 1, fails: CLIPTextModel has "
        "no text_model any more. Ask for clip_skip null",
    ),
    case("TextToVideoSDPipeline", "text to video", modelscope, {**TEXT, "num_frames": 4}),
    case(
        "VideoToVideoSDPipeline",
        "video to video",
        modelscope,
        {"prompt": "a cat", "video": film(4), "num_inference_steps": 4, "strength": 0.75},
    ),
    case("TextToVideoZeroPipeline", "text to video", checked, ZERO),
    case("TextToVideoZeroSDXLPipeline", "text to video", sdxl, ZERO),
]
