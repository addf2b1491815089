"""Stable Diffusion 1 and 2, and what was made of them."""

import numpy as np
from PIL import Image

from tests.conformance.case import Case
from tests.support.image_pipelines import sd15_img2img

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (32, 32, 3), np.uint8))

CASES = [
    Case(
        "StableDiffusionImg2ImgPipeline",
        "image to image",
        sd15_img2img,
        lambda: {"prompt": "a cat", "image": PICTURE, "num_inference_steps": 4, "strength": 0.75},
    ),
]
