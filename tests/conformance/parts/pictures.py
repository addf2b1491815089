"""The pictures that cases are called with: noise, so that whatever is lost of one shows."""

import numpy as np
from PIL import Image


def picture(seed: int = 0, width: int = 32, height: int = 32) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def mask(width: int = 32, height: int = 32) -> Image.Image:
    """White, what is to be repainted, on the right."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, width // 2 :] = 255
    return Image.fromarray(pixels)
