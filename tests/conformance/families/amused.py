"""aMUSEd: it makes the tokens of pictures."""

from diffusers import (
    AmusedScheduler,
    UVit2DModel,
    VQModel,
)

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.samples import mask, picture
from tests.support.model_parts import clip, clip_tokenizer

TEXT = {"prompt": "a cat", "num_inference_steps": 3}


def amused() -> Parts:
    transformer = UVit2DModel(
        hidden_size=16,
        cond_embed_dim=32,
        micro_cond_encode_dim=2,
        micro_cond_embed_dim=10,
        encoder_hidden_size=32,
        vocab_size=32,
        codebook_size=16,
        in_channels=16,
        block_out_channels=16,
        num_res_blocks=1,
        downsample=True,
        upsample=True,
        block_num_heads=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=16,
    )
    vqvae = VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=8,
        norm_num_groups=8,
        num_vq_embeddings=16,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    return {
        "transformer": transformer,
        "scheduler": AmusedScheduler(mask_token_id=31),
        "vqvae": vqvae,
        "text_encoder": clip(projected=True),
        "tokenizer": clip_tokenizer(),
    }


CASES = [
    case("AmusedPipeline", "text to image", amused, {**TEXT, "height": 16, "width": 16}),
    case(
        "AmusedImg2ImgPipeline",
        "image to image",
        amused,
        {**TEXT, "image": picture(0, 16), "num_inference_steps": 4, "strength": 0.75},
    ),
    case(
        "AmusedInpaintPipeline",
        "inpainting",
        amused,
        {**TEXT, "image": picture(0, 16), "mask_image": mask(16), "strength": 1.0},
    ),
]
