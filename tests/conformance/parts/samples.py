"""Pictures and films of noise, to give to pipelines."""

import numpy as np
from PIL import Image


def picture(seed: int = 0, side: int = 32) -> Image.Image:
    """Always the same one for a seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels)


def mask(side: int = 32) -> Image.Image:
    """White where something is to be painted: the right half."""
    pixels = np.zeros((side, side), np.uint8)
    pixels[:, side // 2 :] = 255
    return Image.fromarray(pixels)


def film(frames: int = 5, side: int = 32) -> list[Image.Image]:
    return [picture(seed, side) for seed in range(frames)]
