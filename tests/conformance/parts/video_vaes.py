"""VAEs of films that several families share."""

from typing import Any

from diffusers import AutoencoderKLHunyuanVideo, AutoencoderKLWan


def wan_vae(**config: Any) -> AutoencoderKLWan:
    """Factor 8 in space, 4 in time."""
    return AutoencoderKLWan(
        **{
            "base_dim": 4,
            "z_dim": 16,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "temperal_downsample": [False, True, True],
            **config,
        }
    )


def hunyuan_vae(**config: Any) -> AutoencoderKLHunyuanVideo:
    """Factor 8 in space, 4 in time."""
    return AutoencoderKLHunyuanVideo(
        **{
            "latent_channels": 4,
            "down_block_types": ("HunyuanVideoDownBlock3D",) * 4,
            "up_block_types": ("HunyuanVideoUpBlock3D",) * 4,
            "block_out_channels": (8, 8, 8, 8),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "scaling_factor": 0.476986,
            **config,
        }
    )
