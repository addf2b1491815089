"""HunyuanVideo, with Framepack and SkyReels 1 that use its transformer, and HunyuanVideo 1.5."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoFramepackTransformer3DModel,
    HunyuanVideoTransformer3DModel,
)
from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video_image2video

from tests.conformance.case import Case
from tests.conformance.parts.footage import TEXT, picture
from tests.conformance.parts.video_texts import SIZES, WIDTH, llama, qwen_text, word_tokenizer
from tests.conformance.parts.video_vaes import hunyuan_vae
from tests.conformance.parts.vision import (
    clip_processor,
    clip_vision,
    siglip_processor,
    siglip_vision,
)
from tests.support.model_parts import byte_tokenizer, clip, clip_tokenizer, t5

GUIDED = {**TEXT, "negative_prompt": "blurry", "true_cfg_scale": 2.0}
TEMPLATE = pipeline_hunyuan_video_image2video.DEFAULT_PROMPT_TEMPLATE["template"]
MARKS = ("<image>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
EYES_SIDE = 96  # pixels: 24 by 24 patches, as many as the template says


def tokenizer() -> Any:
    """Reads the pipelines' templates in about as many tokens as their own one does."""
    return word_tokenizer(TEMPLATE, MARKS, length=512)


def transformer(**config: Any) -> HunyuanVideoTransformer3DModel:
    return HunyuanVideoTransformer3DModel(**{**_sizes(), **config})


def _sizes() -> dict[str, Any]:
    return {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 10,
        "num_layers": 1,
        "num_single_layers": 1,
        "num_refiner_layers": 1,
        "patch_size": 1,
        "patch_size_t": 1,
        "text_embed_dim": WIDTH,
        "pooled_projection_dim": 32,
        "rope_axes_dim": (2, 4, 4),
    }


def hunyuan(name: str, transformer: Any, **parts: Any) -> DiffusionPipeline:
    reader = tokenizer()
    usual = {
        "text_encoder": llama(len(reader)),
        "tokenizer": reader,
        "text_encoder_2": clip(),
        "tokenizer_2": clip_tokenizer(),
        "vae": hunyuan_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
        "transformer": transformer,
    }
    return getattr(diffusers, name)(**{**usual, **parts})


def text_to_video() -> DiffusionPipeline:
    return hunyuan("HunyuanVideoPipeline", transformer(guidance_embeds=True))


def image_to_video(condition: str) -> DiffusionPipeline:
    """`condition`: how its transformer sees the picture."""
    reader = tokenizer()
    eyes = {"image_size": EYES_SIDE, "model_type": "clip_vision_model"}
    config = hf.LlavaConfig(
        text_config=hf.LlamaConfig(**SIZES, vocab_size=len(reader)),
        vision_config=clip_vision(**eyes).config,
        image_token_index=reader.convert_tokens_to_ids("<image>"),
        pad_token_id=reader.pad_token_id,
    )
    replaces = condition == "token_replace"
    return hunyuan(
        "HunyuanVideoImageToVideoPipeline",
        transformer(
            in_channels=4 if replaces else 9,
            image_condition_type=condition,
            guidance_embeds=replaces,
        ),
        tokenizer=reader,
        text_encoder=hf.LlavaForConditionalGeneration(config).eval(),
        image_processor=clip_processor(EYES_SIDE),
    )


def skyreels() -> DiffusionPipeline:
    return hunyuan(
        "HunyuanSkyreelsImageToVideoPipeline", transformer(in_channels=8, guidance_embeds=False)
    )


def framepack() -> DiffusionPipeline:
    denoiser = HunyuanVideoFramepackTransformer3DModel(
        **{**_sizes(), "patch_size": 2},
        guidance_embeds=True,
        image_condition_type=None,
        has_image_proj=True,
        image_proj_dim=32,
        has_clean_x_embedder=True,
    )
    eyes = {"image_encoder": siglip_vision(), "feature_extractor": siglip_processor()}
    return hunyuan("HunyuanVideoFramepackPipeline", denoiser, **eyes)


def hunyuan15(name: str, task: str, **parts: Any) -> DiffusionPipeline:
    denoiser = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        patch_size=1,
        patch_size_t=1,
        text_embed_dim=WIDTH,
        text_embed_2_dim=32,
        image_embed_dim=32,
        rope_axes_dim=(2, 2, 4),
        target_size=32,
        task_type=task,
    )
    vae = AutoencoderKLHunyuanVideo15(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    return getattr(diffusers, name)(
        transformer=denoiser,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder=qwen_text(),
        tokenizer=byte_tokenizer(2048),
        text_encoder_2=t5(),
        tokenizer_2=byte_tokenizer(256),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
        **parts,
    )


def image_to_video_15() -> DiffusionPipeline:
    # 27 by 27 patches, as many as the pipeline says
    eyes = {"image_encoder": siglip_vision(108), "feature_extractor": siglip_processor(108)}
    return hunyuan15("HunyuanVideo15ImageToVideoPipeline", "i2v", **eyes)


SHOWN = {name: value for name, value in TEXT.items() if name not in ("height", "width")}
CASES = [
    Case("HunyuanVideoPipeline", "text to video", text_to_video, lambda: GUIDED),
    Case(
        "HunyuanVideoImageToVideoPipeline",
        "image to video, latents joined",
        lambda: image_to_video("latent_concat"),
        lambda: {**GUIDED, "image": picture()},
    ),
    Case(
        "HunyuanVideoImageToVideoPipeline",
        "image to video, first latent replaced",
        lambda: image_to_video("token_replace"),
        lambda: {**GUIDED, "image": picture()},
    ),
    Case(
        "HunyuanSkyreelsImageToVideoPipeline",
        "image to video",
        skyreels,
        lambda: {**GUIDED, "image": picture()},
    ),
    Case(
        "HunyuanVideoFramepackPipeline",
        "image to video",
        framepack,
        lambda: {**TEXT, "image": picture(), "num_frames": 18, "latent_window_size": 3},
    ),
    Case(
        "HunyuanVideoFramepackPipeline",
        "first and last frame to video",
        framepack,
        lambda: {
            **TEXT,
            "image": picture(),
            "last_image": picture(seed=1),
            "num_frames": 9,
            "latent_window_size": 3,
        },
    ),
    Case(
        "HunyuanVideo15Pipeline",
        "text to video",
        lambda: hunyuan15("HunyuanVideo15Pipeline", "t2v"),
        lambda: {**TEXT, "negative_prompt": "blurry"},
    ),
    Case(
        "HunyuanVideo15ImageToVideoPipeline",
        "image to video",
        image_to_video_15,
        lambda: {**SHOWN, "negative_prompt": "blurry", "image": picture()},
    ),
]
