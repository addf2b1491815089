"""AudioLDM 1 and 2, and MusicLDM: pictures of sounds, and a vocoder."""

from typing import Any

import transformers as hf
from diffusers import (
    AudioLDM2Pipeline,
    AudioLDM2ProjectionModel,
    AudioLDM2UNet2DConditionModel,
    AudioLDMPipeline,
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers

from tests.conformance.case import Absent, Case
from tests.conformance.parts.video_texts import BYTES
from tests.support.model_parts import SD_BETAS, t5

WIDTH = 16
BLOCKS = {
    "block_out_channels": (32, 64),
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


def roberta_tokenizer() -> hf.RobertaTokenizer:
    """A token for each byte; the pipelines look at its class."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *pre_tokenizers.ByteLevel.alphabet()]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return hf.RobertaTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def t5_tokenizer() -> hf.T5Tokenizer:
    """A token for each letter; the pipelines look at its class."""
    letters = [(letter, -2.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters]
    return hf.T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=77)


def shared_parts() -> dict[str, Any]:
    vae = AutoencoderKL(
        block_out_channels=[32, 64],
        in_channels=1,
        out_channels=1,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=4,
    )
    vocoder = hf.SpeechT5HifiGanConfig(
        model_in_dim=8,
        sampling_rate=16000,
        upsample_initial_channel=16,
        upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4],
        resblock_kernel_sizes=[3, 7],
        resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
        normalize_before=False,
    )
    return {
        "vae": vae,
        "vocoder": hf.SpeechT5HifiGan(vocoder).eval(),
        "tokenizer": roberta_tokenizer(),
        "scheduler": DDIMScheduler(clip_sample=False, **SD_BETAS),
    }


def _clap_text() -> hf.ClapTextConfig:
    return hf.ClapTextConfig(
        hidden_size=WIDTH,
        intermediate_size=37,
        num_attention_heads=2,
        num_hidden_layers=2,
        pad_token_id=1,
        vocab_size=BYTES,
        projection_dim=WIDTH,
    )


def clap() -> hf.PreTrainedModel:
    """Hears too: AudioLDM 2 chooses the best of several sounds by it."""
    audio = hf.ClapAudioConfig(
        spec_size=64,
        window_size=4,
        num_mel_bins=64,
        intermediate_size=37,
        depths=[2, 2],
        num_attention_heads=[2, 2],
        num_hidden_layers=2,
        hidden_size=192,
        projection_dim=WIDTH,
        patch_size=2,
        patch_stride=2,
        patch_embed_input_channels=4,
    )
    config = hf.ClapConfig(text_config=_clap_text(), audio_config=audio, projection_dim=WIDTH)
    return hf.ClapModel(config).eval()


def _class_embedding_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **BLOCKS,
        layers_per_block=1,
        cross_attention_dim=(32, 64),
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=WIDTH,
        class_embeddings_concat=True,
    )


def audioldm() -> DiffusionPipeline:
    text = hf.ClapTextModelWithProjection(_clap_text()).eval()
    return AudioLDMPipeline(**shared_parts(), text_encoder=text, unet=_class_embedding_unet())


def audioldm2() -> DiffusionPipeline:
    language = hf.GPT2Config(
        n_embd=WIDTH, n_head=2, n_layer=2, vocab_size=64, n_positions=99, max_new_tokens=8
    )
    unet = AudioLDM2UNet2DConditionModel(
        **BLOCKS, layers_per_block=1, cross_attention_dim=([None, 16, 32], [None, 16, 32])
    )
    return AudioLDM2Pipeline(
        **shared_parts(),
        text_encoder=clap(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        projection_model=AudioLDM2ProjectionModel(
            text_encoder_dim=WIDTH, text_encoder_1_dim=32, langauge_model_dim=WIDTH
        ),
        language_model=hf.GPT2LMHeadModel(language).eval(),
        feature_extractor=hf.ClapFeatureExtractor(hop_length=7900),
        unet=unet,
    )


BELL = {
    "prompt": "a bell",
    "negative_prompt": "noise",
    "num_inference_steps": 2,
    "audio_length_in_s": 0.032,
}
CASES = [
    Case("AudioLDMPipeline", "text to sound", audioldm, lambda: BELL),
    Case("AudioLDM2Pipeline", "text to sound", audioldm2, lambda: BELL),
]
ABSENT = [
    Absent(
        "MusicLDMPipeline",
        "it takes what ClapModel.get_text_features gives for a tensor, which transformers 5 gives "
        "in an output object: it has no attribute to",
    )
]
