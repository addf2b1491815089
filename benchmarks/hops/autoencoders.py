"""The autoencoders that published models share. Where a class is named without sizes, those of the
published one are its defaults."""

from typing import Any

import diffusers

from benchmarks.hops.hollow import model

_FOUR = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


def kl(channels: int, **config: Any) -> Any:
    """AutoencoderKL of factor 8. With 16 channels (SD3, Flux) it has no convolutions around its
    latents."""
    around = {} if channels == 4 else {"use_quant_conv": False, "use_post_quant_conv": False}
    return model(diffusers.AutoencoderKL, **_FOUR, **{**around, **config}, latent_channels=channels)


def flux() -> Any:
    return kl(16, sample_size=1024, scaling_factor=0.3611, shift_factor=0.1159)


def deep() -> Any:
    """dc-ae-f32c32-sana-1.0."""
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    return model(
        diffusers.AutoencoderDC,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        scaling_factor=0.41407,
    )


def wan22() -> Any:
    """Of Wan 2.2 TI2V 5B: factor 16, 48 channels."""
    return model(
        diffusers.AutoencoderKLWan,
        base_dim=160,
        decoder_base_dim=256,
        z_dim=48,
        in_channels=12,
        out_channels=12,
        is_residual=True,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.0] * 48,
        latents_std=[1.0] * 48,
    )
