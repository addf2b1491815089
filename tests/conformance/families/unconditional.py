"""What makes pictures of nothing, or of a class: the first diffusion models, and DiT."""

from typing import Any

from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DiTTransformer2DModel,
    KarrasVeScheduler,
    PNDMScheduler,
    RePaintScheduler,
    ScoreSdeVeScheduler,
    UNet2DModel,
    VQModel,
)

from tests.conformance.case import Case
from tests.conformance.parts.fitting import Parts, case, fit
from tests.conformance.parts.samples import mask, picture
from tests.support.model_parts import vae

STEPS = {"num_inference_steps": 3}


def pixels(scheduler: Any, **config: Any) -> Parts:
    model = UNet2DModel(
        **{
            "block_out_channels": (8, 16),
            "norm_num_groups": 4,
            "layers_per_block": 1,
            "sample_size": 16,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            **config,
        }
    )
    return {"unet": model, "scheduler": scheduler}


def vq() -> VQModel:
    return VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=3,
    )


def consistency() -> Parts:
    scheduler = CMStochasticIterativeScheduler(sigma_min=0.002, sigma_max=80.0)
    return pixels(scheduler, num_class_embeds=10)


def karras() -> Any:
    """As in its authors' folder. Of its scheduler save_pretrained writes that it is in a module
    `deprecated`, where from_pretrained does not find it."""
    pipeline = fit("KarrasVePipeline", pixels(KarrasVeScheduler()))
    pipeline.register_to_config(scheduler=("diffusers", "KarrasVeScheduler"))
    return pipeline


def dit() -> Parts:
    model = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=4,
    )
    return {"transformer": model, "vae": vae(), "scheduler": DDIMScheduler(), "id2label": None}


CASES = [
    case("DDIMPipeline", "unconditional", lambda: pixels(DDIMScheduler()), {**STEPS, "eta": 0.5}),
    case("DDPMPipeline", "unconditional", lambda: pixels(DDPMScheduler()), STEPS),
    case(
        "PNDMPipeline", "unconditional", lambda: pixels(PNDMScheduler()), {"num_inference_steps": 5}
    ),
    Case("KarrasVePipeline", "unconditional", karras, lambda: dict(STEPS)),
    case("ScoreSdeVePipeline", "unconditional", lambda: pixels(ScoreSdeVeScheduler()), STEPS),
    case(
        "ConsistencyModelPipeline",
        "class to image",
        consistency,
        {"timesteps": [39, 22, 0], "num_inference_steps": None, "class_labels": 3},
    ),
    case("DiTPipeline", "class to image", dit, {**STEPS, "class_labels": [7]}),
    case(
        "LDMPipeline",
        "unconditional",
        lambda: {**pixels(DDIMScheduler()), "vqvae": vq()},
        {**STEPS, "eta": 0.5},
    ),
    case(
        "LDMSuperResolutionPipeline",
        "upscaling",
        lambda: {**pixels(DDIMScheduler(), in_channels=6, out_channels=3), "vqvae": vq()},
        {**STEPS, "image": picture()},
    ),
    case(
        "RePaintPipeline",
        "inpainting",
        lambda: pixels(RePaintScheduler(), sample_size=32),
        {
            "image": picture(),
            "mask_image": mask(),
            "num_inference_steps": 5,
            "jump_length": 2,
            "jump_n_sample": 2,
        },
    ),
]
