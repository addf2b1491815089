"""Pictures, films and sounds of random numbers, the same each time."""

import numpy as np
import torch
from PIL import Image

SIDE = 32  # pixels
VIDEO = {"height": SIDE, "width": SIDE, "num_frames": 5, "num_inference_steps": 2}
TEXT = {"prompt": "a red cat", **VIDEO}
BOTH = {**TEXT, "negative_prompt": "blurry"}


def picture(side: int = SIDE, seed: int = 0) -> Image.Image:
    """RGB, a square."""
    return Image.fromarray(_bytes((side, side, 3), seed))


def film(frames: int, side: int = SIDE, seed: int = 0) -> list[Image.Image]:
    return [picture(side, seed + index) for index in range(frames)]


def mask_film(frames: int, side: int = SIDE) -> list[Image.Image]:
    """The left half of each frame is black, the right half white."""
    mask = np.zeros((side, side), np.uint8)
    mask[:, side // 2 :] = 255
    return [Image.fromarray(mask) for _ in range(frames)]


def sound(samples: int, channels: int = 2) -> torch.Tensor:
    """`[1, channels, samples]`, between -1 and 1."""
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.rand(1, channels, samples, generator=generator) * 2 - 1


def _bytes(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
