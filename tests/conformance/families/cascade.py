"""Würstchen and Stable Cascade: a prior makes a small picture, and a decoder a large one of it."""

from typing import Any

from diffusers import DDPMWuerstchenScheduler, StableCascadeUNet
from diffusers.pipelines.deprecated.wuerstchen import (
    PaellaVQModel,
    WuerstchenDiffNeXt,
    WuerstchenPrior,
)

from tests.conformance.case import Absent
from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import clip_pictures, clip_vision
from tests.conformance.parts.samples import picture
from tests.support.model_parts import clip, clip_tokenizer

PRIOR = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "height": 128,
    "width": 128,
}
BOTH = {
    **PRIOR,
    "prior_num_inference_steps": 3,
    "num_inference_steps": 3,
    "decoder_guidance_scale": 2.0,
}
ATTENTION = ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock")


def texts(projected: bool) -> Parts:
    return {"tokenizer": clip_tokenizer(), "text_encoder": clip(projected)}


def both(prior: Parts, decoder: Parts) -> Parts:
    vqgan = PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=16)
    named = {f"prior_{name}": part for name, part in prior.items()}
    return {**named, **decoder, "vqgan": vqgan, "scheduler": DDPMWuerstchenScheduler()}


def prior() -> Parts:
    model = WuerstchenPrior(c_in=2, c=8, depth=2, c_cond=32, c_r=8, nhead=2).eval()
    return {**texts(False), "prior": model, "scheduler": DDPMWuerstchenScheduler()}


def wuerstchen() -> Parts:
    decoder = WuerstchenDiffNeXt(
        c_cond=32,
        c_hidden=[32],
        nhead=[-1],
        blocks=[1],
        level_config=["CT"],
        clip_embd=32,
        inject_effnet=[False],
        effnet_embd=2,
    ).eval()
    return both(prior(), {**texts(False), "decoder": decoder})


def cascade_unet(**config: Any) -> StableCascadeUNet:
    return StableCascadeUNet(
        **{
            "conditioning_dim": 32,
            "block_out_channels": (32, 32),
            "num_attention_heads": (2, 2),
            "down_num_layers_per_block": (1, 1),
            "up_num_layers_per_block": (1, 1),
            "clip_text_pooled_in_channels": 32,
            "timestep_ratio_embedding_dim": 16,
            **config,
        }
    ).eval()


def cascade_prior() -> Parts:
    model = cascade_unet(clip_image_in_channels=32, clip_text_in_channels=32, switch_level=(False,))
    return {
        **texts(True),
        "prior": model,
        "scheduler": DDPMWuerstchenScheduler(),
        "image_encoder": clip_vision(),
        "feature_extractor": clip_pictures(),
    }


def cascade() -> Parts:
    decoder = cascade_unet(
        in_channels=4,
        out_channels=4,
        num_attention_heads=(-1, 2),
        up_blocks_repeat_mappers=(2, 1),
        block_types_per_layer=(ATTENTION[:2], ATTENTION),
        patch_size=2,
        effnet_in_channels=16,
    )
    return both(cascade_prior(), {**texts(True), "decoder": decoder})


CASES = [
    case("WuerstchenCombinedPipeline", "text to image", wuerstchen, BOTH),
    case(
        "WuerstchenPriorPipeline", "text to embedding", prior, {**PRIOR, "num_inference_steps": 3}
    ),
    case("StableCascadeCombinedPipeline", "text to image", cascade, BOTH),
    case(
        "StableCascadeCombinedPipeline",
        "text and image to image",
        cascade,
        {**BOTH, "images": [picture(), picture(1)]},
    ),
    case(
        "StableCascadePriorPipeline",
        "text to embedding",
        cascade_prior,
        {**PRIOR, "num_inference_steps": 3, "images": [picture()]},
    ),
]

_EMBEDDED = (
    "it wants image_embeddings, a tensor that its prior makes: no request brings one; "
    "{} does the same for requests"
)
ABSENT = [
    Absent("WuerstchenDecoderPipeline", _EMBEDDED.format("WuerstchenCombinedPipeline")),
    Absent("StableCascadeDecoderPipeline", _EMBEDDED.format("StableCascadeCombinedPipeline")),
]
