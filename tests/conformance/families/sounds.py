"""Music and sounds: Stable Audio, AudioLDM and MusicLDM, ACE-Step, LongCat, Dance Diffusion."""

import diffusers
import transformers as hf
from diffusers import (
    AceStepPipeline,
    AceStepTransformer1DModel,
    AutoencoderOobleck,
    AutoencoderSAME,
    DanceDiffusionPipeline,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    IPNDMScheduler,
    LongCatAudioDiTPipeline,
    LongCatAudioDiTTransformer,
    LongCatAudioDiTVae,
    StableAudio3DiTModel,
    UNet1DModel,
)
from diffusers.pipelines.ace_step import AceStepConditionEncoder
from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder

from tests.conformance.case import Case
from tests.conformance.parts.footage import sound
from tests.support.model_parts import byte_tokenizer, qwen3, t5
from tests.support.video_pipelines import stable_audio

WIDTH = 16


def stable_audio_3(name: str) -> DiffusionPipeline:
    transformer = StableAudio3DiTModel(
        io_channels=8,
        patch_size=1,
        embed_dim=32,
        depth=2,
        num_heads=4,
        cond_token_dim=WIDTH,
        global_cond_dim=WIDTH,
        local_add_cond_dim=9,
        timestep_features_dim=16,
        ff_mult=2,
        num_memory_tokens=3,
        use_differential_attention=False,
    )
    vae = AutoencoderSAME(
        audio_channels=2,
        patch_size=2,
        encoder_channels=8,
        encoder_c_mults=(2,),
        encoder_strides=(2,),
        encoder_transformer_depths=(1,),
        latent_dim=8,
        use_differential_attention=False,
        dim_heads=4,
        ff_mult=2,
        sampling_rate=16,
    )
    module = {
        "vocab_size": 262,
        "hidden_size": WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "layer_types": ["full_attention", "full_attention"],
    }
    config = hf.T5GemmaConfig(encoder=dict(module), decoder=dict(module), is_encoder_decoder=False)
    return getattr(diffusers, name)(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=hf.T5GemmaEncoderModel(config).eval(),
        tokenizer=byte_tokenizer(64),
        duration_embedder=StableAudio3DurationEmbedder(output_dim=WIDTH, fourier_dim=16),
    )


def ace_step() -> DiffusionPipeline:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "sliding_window": 16, **heads}
    transformer = AceStepTransformer1DModel(
        **sizes, num_hidden_layers=2, in_channels=24, audio_acoustic_hidden_dim=8, patch_size=2
    )
    conditions = AceStepConditionEncoder(
        **sizes,
        text_hidden_dim=32,
        timbre_hidden_dim=8,
        num_lyric_encoder_hidden_layers=2,
        num_timbre_encoder_hidden_layers=2,
    )
    vae = AutoencoderOobleck(
        encoder_hidden_size=16,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=8,
        channel_multiples=[2, 4],
        sampling_rate=50,
    )
    return AceStepPipeline(
        transformer=transformer,
        condition_encoder=conditions,
        vae=vae,
        text_encoder=qwen3(),
        tokenizer=byte_tokenizer(2048),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )


def longcat() -> DiffusionPipeline:
    transformer = LongCatAudioDiTTransformer(
        dit_dim=64, dit_depth=2, dit_heads=4, dit_text_dim=32, latent_dim=8, text_conv=False
    )
    vae = LongCatAudioDiTVae(
        channels=16,
        c_mults=[1, 2],
        strides=[2],
        latent_dim=8,
        encoder_latent_dim=16,
        downsampling_ratio=2,
        sample_rate=24000,
    )
    return LongCatAudioDiTPipeline(
        vae=vae, text_encoder=t5(umt5=True), tokenizer=byte_tokenizer(512), transformer=transformer
    )


def dance() -> DiffusionPipeline:
    unet = UNet1DModel(
        block_out_channels=(32, 32, 64),
        extra_in_channels=64,
        sample_size=512,
        sample_rate=16_000,
        in_channels=2,
        out_channels=2,
        flip_sin_to_cos=True,
        use_timestep_embedding=False,
        time_embedding_type="fourier",
        mid_block_type="UNetMidBlock1D",
        down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
        up_block_types=("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"),
    )
    return DanceDiffusionPipeline(unet=unet, scheduler=IPNDMScheduler())


BELL = {"prompt": "a bell", "num_inference_steps": 2}
CASES = [
    Case(
        "StableAudioPipeline",
        "text to sound",
        stable_audio,
        lambda: {**BELL, "audio_end_in_s": 2.0, "negative_prompt": "noise"},
    ),
    Case(
        "StableAudioPipeline",
        "sound to sound",
        stable_audio,
        lambda: {
            **BELL,
            "audio_end_in_s": 2.0,
            "initial_audio_waveforms": sound(32),
            "initial_audio_sampling_rate": 8,
        },
    ),
    Case(
        "StableAudio3Pipeline",
        "text to sound",
        lambda: stable_audio_3("StableAudio3Pipeline"),
        lambda: {**BELL, "duration": 1.0, "guidance_scale": 2.0, "negative_prompt": "noise"},
    ),
    Case(
        "StableAudio3AudioToAudioPipeline",
        "sound to sound",
        lambda: stable_audio_3("StableAudio3AudioToAudioPipeline"),
        lambda: {**BELL, "duration": 1.0, "audio": sound(16), "init_noise_level": 0.8},
    ),
    Case(
        "StableAudio3InpaintPipeline",
        "sound inpainting",
        lambda: stable_audio_3("StableAudio3InpaintPipeline"),
        lambda: {
            **BELL,
            "duration": 1.0,
            "audio": sound(16),
            "mask_start_seconds": 0.25,
            "mask_end_seconds": 0.75,
        },
    ),
    Case(
        "AceStepPipeline",
        "text and lyrics to music",
        ace_step,
        lambda: {**BELL, "lyrics": "[verse]\nring", "audio_duration": 1.0},
    ),
    Case(
        "AceStepPipeline",
        "cover of music",
        ace_step,
        lambda: {
            **BELL,
            "lyrics": "[verse]\nring",
            "audio_duration": 1.0,
            "reference_audio": sound(64)[0],
        },
    ),
    Case(
        "LongCatAudioDiTPipeline",
        "text to sound",
        longcat,
        lambda: {**BELL, "audio_duration_s": 0.1, "negative_prompt": "noise"},
    ),
    Case(
        "DanceDiffusionPipeline",
        "sound from noise",
        dance,
        lambda: {"num_inference_steps": 3, "audio_length_in_s": 0.03},
    ),
]
