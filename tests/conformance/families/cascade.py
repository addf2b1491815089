"""Stable Cascade's prior, which makes a small picture of a text; what decodes it is in `lost`."""

from diffusers import DDPMWuerstchenScheduler, StableCascadeUNet

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import clip_pictures, clip_vision
from tests.conformance.parts.samples import picture
from tests.support.model_parts import clip, clip_tokenizer


def prior() -> Parts:
    model = StableCascadeUNet(
        conditioning_dim=32,
        block_out_channels=(32, 32),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        clip_text_in_channels=32,
        clip_text_pooled_in_channels=32,
        clip_image_in_channels=32,
        timestep_ratio_embedding_dim=16,
        switch_level=(False,),
    ).eval()
    return {
        "tokenizer": clip_tokenizer(),
        "text_encoder": clip(projected=True),
        "prior": model,
        "scheduler": DDPMWuerstchenScheduler(),
        "image_encoder": clip_vision(),
        "feature_extractor": clip_pictures(),
    }


CASES = [
    case(
        "StableCascadePriorPipeline",
        "text and image to embedding",
        prior,
        {
            "prompt": "a cat",
            "negative_prompt": "a dog",
            "height": 128,
            "width": 128,
            "num_inference_steps": 3,
            "images": [picture()],
        },
    ),
]
