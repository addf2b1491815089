"""Shap-E, which makes shapes, and shows them from all sides: here from four of its twenty, whose
rays are as many as it traces at a time; it drops those that fill no whole number of such rounds.
"""

import dataclasses
from typing import Any

import transformers as hf
from diffusers import HeunDiscreteScheduler, PriorTransformer
from diffusers.pipelines.shap_e import ShapERenderer, camera, renderer

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import clip_pictures, clip_vision
from tests.conformance.parts.samples import picture
from tests.support.model_parts import clip, clip_tokenizer

SIDES = 4


def few_cameras(size: int) -> Any:
    """The first of those that diffusers places around a shape."""
    all_around = camera.create_pan_cameras(size)
    some = {name: getattr(all_around, name)[:SIDES] for name in ("origin", "x", "y", "z")}
    return dataclasses.replace(all_around, **some, shape=(1, SIDES))


def shap_e(**encoder: Any) -> Parts:
    renderer.create_pan_cameras = few_cameras  # in this case's own process
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
    shows = ShapERenderer(
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
    return {"prior": prior, "shap_e_renderer": shows, "scheduler": scheduler, **encoder}


def shap_e_of_text() -> Parts:
    return shap_e(text_encoder=clip(projected=True), tokenizer=clip_tokenizer())


def shap_e_of_picture() -> Parts:
    config = clip_vision().config
    encoder = hf.CLIPVisionModel(config).eval()
    return shap_e(norm="layer", image_encoder=encoder, image_processor=clip_pictures())


CASES = [
    case(
        "ShapEPipeline",
        "text to shape",
        shap_e_of_text,
        {"prompt": "a cat", "num_inference_steps": 2, "frame_size": 32},
    ),
    case(
        "ShapEImg2ImgPipeline",
        "image to shape",
        shap_e_of_picture,
        {"image": picture(), "num_inference_steps": 2, "frame_size": 32},
    ),
]
