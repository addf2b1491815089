"""The first latent diffusion of text, and models of texts and pictures both."""

import torch
from diffusers import DDIMScheduler, UniDiffuserModel, UniDiffuserTextDecoder
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import (
    LDMBertConfig,
    LDMBertModel,
)

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import clip_pictures, clip_vision, sd
from tests.conformance.parts.samples import picture
from tests.support.model_parts import SD_BETAS, byte_tokenizer, clip, clip_tokenizer, unet, vae

TEXT = {"prompt": "a cat", "height": 32, "width": 32, "num_inference_steps": 3}


def latent_diffusion() -> Parts:
    config = LDMBertConfig(
        vocab_size=512,
        encoder_layers=2,
        encoder_ffn_dim=37,
        encoder_attention_heads=4,
        head_dim=8,
        d_model=32,
    )
    return {
        **sd(),
        "vqvae": vae(),
        "bert": LDMBertModel(config).eval(),
        "tokenizer": byte_tokenizer(77),
    }


def versatile() -> Parts:
    """With the UNet of pictures alone."""
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip(projected=True),
        "image_encoder": clip_vision(),
        "image_feature_extractor": clip_pictures(),
        "image_unet": unet(32),
        "text_unet": None,
        "vae": vae(),
        "scheduler": DDIMScheduler(clip_sample=False, **SD_BETAS),
    }


def unidiffuser() -> Parts:
    model = UniDiffuserModel(
        text_dim=32,
        clip_img_dim=32,
        num_text_tokens=77,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        norm_num_groups=4,
        sample_size=4,
        patch_size=2,
        activation_fn="gelu",
        num_embeds_ada_norm=1000,
        use_patch_pos_embed=True,
        ff_final_dropout=True,
        use_data_type_embedding=True,
    )
    decoder = UniDiffuserTextDecoder(
        prefix_length=77,
        prefix_inner_dim=32,
        prefix_hidden_dim=32,
        vocab_size=512,
        n_positions=128,
        n_embd=32,
        n_layer=1,
        n_head=4,
    ).eval()
    # apart, or diffusers does not save them
    head = decoder.transformer.lm_head
    head.weight = torch.nn.Parameter(head.weight.clone())
    return {
        "vae": vae(),
        "text_encoder": clip(),
        "image_encoder": clip_vision(),
        "clip_image_processor": clip_pictures(),
        "clip_tokenizer": clip_tokenizer(),
        "text_decoder": decoder,
        "text_tokenizer": byte_tokenizer(77),
        "unet": model,
        "scheduler": DDIMScheduler(clip_sample=False, **SD_BETAS),
    }


CASES = [
    case(
        "LDMTextToImagePipeline", "text to image", latent_diffusion, {**TEXT, "guidance_scale": 3.0}
    ),
    case("UniDiffuserPipeline", "text to image", unidiffuser, TEXT),
    case(
        "VersatileDiffusionTextToImagePipeline",
        "text to image",
        versatile,
        {**TEXT, "negative_prompt": "a dog"},
    ),
    case(
        "VersatileDiffusionImageVariationPipeline",
        "variation",
        versatile,
        {"image": picture(), "height": 32, "width": 32, "num_inference_steps": 3},
    ),
]
