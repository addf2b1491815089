"""unCLIP, and Shap-E, which make pictures and shapes of what CLIP says."""

from typing import Any

import transformers as hf
from diffusers import HeunDiscreteScheduler, PriorTransformer, UnCLIPScheduler, UNet2DModel
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.shap_e import ShapERenderer

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import clip_pictures, clip_vision
from tests.conformance.parts.samples import picture
from tests.support.model_parts import clip, clip_tokenizer, unet

STEPS = {"decoder_num_inference_steps": 3, "super_res_num_inference_steps": 2}


def super_resolution() -> UNet2DModel:
    return UNet2DModel(
        sample_size=32,
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        block_out_channels=(32, 64),
        in_channels=6,
        out_channels=3,
    )


def unclip() -> Parts:
    decoder = unet(
        32,
        sample_size=16,
        in_channels=3,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        layers_per_block=1,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1
    )
    prior.clip_std.data.fill_(1.0)
    return {
        "prior": prior,
        "decoder": decoder,
        "text_encoder": clip(projected=True),
        "tokenizer": clip_tokenizer(),
        "text_proj": UnCLIPTextProjModel(
            clip_embeddings_dim=32, time_embed_dim=128, cross_attention_dim=32
        ),
        "super_res_first": super_resolution(),
        "super_res_last": super_resolution(),
        "prior_scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        "decoder_scheduler": UnCLIPScheduler(variance_type="learned_range"),
        "super_res_scheduler": UnCLIPScheduler(variance_type="fixed_small_log"),
        "feature_extractor": clip_pictures(),
        "image_encoder": clip_vision(),
    }


def shap_e(**encoder: Any) -> Parts:
    prior = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        embedding_dim=32,
        num_embeddings=32,
        embedding_proj_dim=32,
        time_embed_dim=32,
        num_layers=1,
        clip_embed_dim=64,
        additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer",
        embedding_proj_norm_type=encoder.pop("norm", None),
        encoder_hid_proj_type=None,
        added_emb_type=None,
    )
    renderer = ShapERenderer(
        param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)),
        d_latent=32,
        d_hidden=8,
        background=(0.1, 0.2, 0.3),
    )
    scheduler = HeunDiscreteScheduler(
        beta_schedule="exp",
        num_train_timesteps=1024,
        prediction_type="sample",
        use_karras_sigmas=True,
        clip_sample=True,
    )
    return {"prior": prior, "shap_e_renderer": renderer, "scheduler": scheduler, **encoder}


def shap_e_of_text() -> Parts:
    return shap_e(text_encoder=clip(projected=True), tokenizer=clip_tokenizer())


def shap_e_of_picture() -> Parts:
    config = clip_vision().config
    encoder = hf.CLIPVisionModel(config).eval()
    return shap_e(norm="layer", image_encoder=encoder, image_processor=clip_pictures())


CASES = [
    case(
        "UnCLIPPipeline",
        "text to image",
        unclip,
        {"prompt": "a cat", "prior_num_inference_steps": 3, **STEPS},
    ),
    case("UnCLIPImageVariationPipeline", "variation", unclip, {"image": picture(), **STEPS}),
    case(
        "ShapEPipeline",
        "text to shape",
        shap_e_of_text,
        {"prompt": "a cat", "num_inference_steps": 2, "frame_size": 16},
    ),
    case(
        "ShapEImg2ImgPipeline",
        "image to shape",
        shap_e_of_picture,
        {"image": picture(), "num_inference_steps": 2, "frame_size": 16},
    ),
]
