"""OmniGen: the transformer reads text tokens and pictures itself."""

from typing import Any

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler, OmniGenTransformer2DModel

from tests.conformance.case import Case
from tests.conformance.parts.pictures import picture
from tests.support.model_parts import byte_tokenizer, vae

TEXT = {"prompt": "a small dog", "height": 32, "width": 32, "num_inference_steps": 2}
EDIT = {**TEXT, "prompt": "<img><|image_1|></img> with a hat", "max_input_image_size": 32}


def omnigen() -> Any:
    return diffusers.OmniGenPipeline(
        transformer=OmniGenTransformer2DModel(
            hidden_size=16,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=32,
            num_layers=1,
            in_channels=4,
            time_step_dim=4,
            pad_token_id=0,
            vocab_size=512,
            rope_scaling={"long_factor": [1.0, 2.0], "short_factor": [1.0, 1.5]},
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True, num_train_timesteps=1),
        vae=vae(),
        tokenizer=byte_tokenizer(512),
    )


CASES = [
    Case("OmniGenPipeline", "text to image", omnigen, lambda: TEXT),
    Case("OmniGenPipeline", "edit", omnigen, lambda: {**EDIT, "input_images": [picture()]}),
]
