"""VAEs of other shapes than the usual one."""

from collections.abc import Sequence
from typing import Any

from diffusers import AutoencoderKL


def kl(blocks: Sequence[int] = (8, 8, 16, 16), **config: Any) -> AutoencoderKL:
    """`blocks`: the channels of each; the factor is 2 for each but the last."""
    return AutoencoderKL(
        block_out_channels=blocks,
        down_block_types=["DownEncoderBlock2D"] * len(blocks),
        up_block_types=["UpDecoderBlock2D"] * len(blocks),
        norm_num_groups=4,
        sample_size=32,
        shift_factor=0.1,
        scaling_factor=1.5,
        **config,
    )


def deep(**config: Any) -> AutoencoderKL:
    """Factor 32: for pipelines that make a megapixel of every picture."""
    return kl((4, 4, 4, 4, 8, 16), **config)
