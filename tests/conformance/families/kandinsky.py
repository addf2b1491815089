"""Kandinsky 1, 2.2 and 3. The first two have a prior, which makes the embedding of a picture."""

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    Kandinsky3UNet,
    PriorTransformer,
    UnCLIPScheduler,
    VQModel,
)
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

from tests.conformance.case import Absent
from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import awake, clip_pictures, clip_vision
from tests.conformance.parts.samples import mask, picture
from tests.support.model_parts import SD_BETAS, byte_tokenizer, clip, clip_tokenizer, t5, unet

BOTH = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "num_inference_steps": 3,
    "prior_num_inference_steps": 3,
    "height": 64,
    "width": 64,
}
IMAGE = {**BOTH, "image": picture(0, 64), "strength": 0.7}
PAINT = {**BOTH, "image": picture(0, 64), "mask_image": mask(64)}
TEXT = {"prompt": "a cat", "negative_prompt": "a dog", "num_inference_steps": 3}


def movq(halved: int = 1) -> VQModel:
    """`halved`: how many times a side is, in the latents."""
    return VQModel(
        block_out_channels=(32,) * halved + (64,),
        down_block_types=("DownEncoderBlock2D",) * halved + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * halved,
        latent_channels=4,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )


def prior() -> Parts:
    model = PriorTransformer(
        num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1
    )
    model.clip_std.data.fill_(1.0)
    return {
        "prior": model,
        "image_encoder": clip_vision(),
        "text_encoder": clip(projected=True),
        "tokenizer": clip_tokenizer(),
        "scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=10.0
        ),
        "image_processor": clip_pictures(),
    }


def with_prior(decoder: Parts) -> Parts:
    return {**decoder, **{f"prior_{name}": part for name, part in prior().items()}}


def simple_unet(**config: object) -> Parts:
    """The UNet of Kandinsky 1 and 2.2, with what else decodes."""
    model = unet(
        32,
        **{
            "out_channels": 8,
            "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "layers_per_block": 1,
            "encoder_hid_dim": 32,
            "attention_head_dim": 4,
            "resnet_time_scale_shift": "scale_shift",
            **config,
        },
    )
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **SD_BETAS)
    return {"unet": model, "scheduler": scheduler, "movq": movq()}


def first(in_channels: int = 4) -> Parts:
    config = MCLIPConfig(
        numDims=32,
        transformerDimensions=32,
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        vocab_size=512,
    )
    parts = simple_unet(
        in_channels=in_channels,
        addition_embed_type="text_image",
        encoder_hid_dim_type="text_image_proj",
    )
    encoder = MultilingualCLIP(config).eval()
    tokenizer = byte_tokenizer(77)
    return with_prior({**parts, "text_encoder": encoder, "tokenizer": tokenizer})


def second(in_channels: int = 4) -> Parts:
    return with_prior(
        simple_unet(
            in_channels=in_channels,
            addition_embed_type="image",
            encoder_hid_dim_type="image_proj",
        )
    )


def third() -> Parts:
    model = Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=3,
        block_out_channels=(32, 64),
        cross_attention_dim=4,
        encoder_hid_dim=32,
    )
    return {
        "unet": awake(model),
        "scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "movq": movq(halved=3),
        "text_encoder": t5(),
        "tokenizer": byte_tokenizer(128),
    }


CASES = [
    case("KandinskyCombinedPipeline", "text to image", first, BOTH),
    case("KandinskyImg2ImgCombinedPipeline", "image to image", first, IMAGE),
    case("KandinskyInpaintCombinedPipeline", "inpainting", lambda: first(9), PAINT),
    case("KandinskyPriorPipeline", "text to embedding", prior, TEXT),
    case("KandinskyV22CombinedPipeline", "text to image", second, BOTH),
    case("KandinskyV22Img2ImgCombinedPipeline", "image to image", second, IMAGE),
    case("KandinskyV22InpaintCombinedPipeline", "inpainting", lambda: second(9), PAINT),
    case("KandinskyV22PriorPipeline", "text to embedding", prior, TEXT),
    case(
        "KandinskyV22PriorEmb2EmbPipeline",
        "image to embedding",
        prior,
        {**TEXT, "image": picture(), "strength": 0.7},
    ),
    case("Kandinsky3Pipeline", "text to image", third, {**TEXT, "height": 64, "width": 64}),
    case(
        "Kandinsky3Img2ImgPipeline",
        "image to image",
        third,
        {**TEXT, "image": picture(0, 64), "strength": 0.7},
    ),
]

_EMBEDDED = (
    "it wants image_embeds, a tensor that its prior makes: no request brings one; "
    "{} does the same for requests"
)
_HINT = "it wants image_embeds and hint, tensors that others make: no request brings them"
_TAKES = {
    "KandinskyPipeline": "KandinskyCombinedPipeline",
    "KandinskyImg2ImgPipeline": "KandinskyImg2ImgCombinedPipeline",
    "KandinskyInpaintPipeline": "KandinskyInpaintCombinedPipeline",
    "KandinskyV22Pipeline": "KandinskyV22CombinedPipeline",
    "KandinskyV22Img2ImgPipeline": "KandinskyV22Img2ImgCombinedPipeline",
    "KandinskyV22InpaintPipeline": "KandinskyV22InpaintCombinedPipeline",
}
ABSENT = [Absent(name, _EMBEDDED.format(whole)) for name, whole in _TAKES.items()]
ABSENT += [
    Absent("KandinskyV22ControlnetPipeline", _HINT),
    Absent("KandinskyV22ControlnetImg2ImgPipeline", _HINT),
]
