"""Marigold: depth, normals and materials of a picture."""

from diffusers import DDIMScheduler, LCMScheduler

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import sd
from tests.conformance.parts.samples import picture

ARGUMENTS = {
    "image": picture(),
    "num_inference_steps": 3,
    "processing_resolution": 32,
    "ensemble_size": 1,
}


def depth() -> Parts:
    scheduler = DDIMScheduler(
        prediction_type="v_prediction", set_alpha_to_one=False, clip_sample=False
    )
    return {
        **sd(in_channels=8),
        "scheduler": scheduler,
        "prediction_type": "depth",
        "scale_invariant": True,
        "shift_invariant": True,
    }


def normals() -> Parts:
    return {
        **sd(in_channels=8),
        "scheduler": LCMScheduler(),
        "prediction_type": "normals",
        "use_full_z_range": True,
    }


def intrinsics() -> Parts:
    properties = {
        "target_names": ["albedo", "roughness"],
        "albedo": {"prediction_space": "srgb", "up_to_scale": False},
        "roughness": {"prediction_space": "stack", "sub_target_names": ["roughness"]},
    }
    return {
        **sd(in_channels=12, out_channels=8),
        "scheduler": DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
        "prediction_type": "intrinsics",
        "target_properties": properties,
    }


CASES = [
    case("MarigoldDepthPipeline", "image to depth", depth, ARGUMENTS),
    case("MarigoldNormalsPipeline", "image to normals", normals, ARGUMENTS),
    case("MarigoldIntrinsicsPipeline", "image to materials", intrinsics, ARGUMENTS),
]
