"""Pipelines that exist as blocks only."""

from functools import partial
from typing import Any

import transformers as hf
from diffusers import (
    AnimaTextConditioner,
    AutoencoderKLMiniMaxH3,
    AutoencoderKLMiniMaxH3Audio,
    Cosmos3OmniTransformer,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux3Transformer2DModel,
    MiniMaxH3Scheduler,
    MiniMaxH3Transformer3DModel,
    MiniMaxMusic3ConditionEncoder,
    MiniMaxMusic3RVQDepthDecoder,
    MiniMaxMusic3Transformer1DModel,
    MiniMaxMusic3Vocoder,
    ModularPipeline,
    UniPCMultistepScheduler,
)

from tests.conformance.case import Case
from tests.conformance.families import flux2, ltx2, qwenimage
from tests.conformance.families import krea2 as families_krea2
from tests.conformance.modular import of_classic, pipeline
from tests.conformance.parts.footage import BOTH, picture
from tests.conformance.parts.processors import qwen_processor, vision_tokenizer
from tests.conformance.parts.texts import VOCABULARY, qwen3_vl
from tests.conformance.parts.video_vaes import wan_vae
from tests.support.model_parts import byte_tokenizer, qwen3

TEXT = {"prompt": "a red circle", "height": 32, "width": 32, "num_inference_steps": 3}
NEGATED = {**TEXT, "negative_prompt": "blue"}


def flux3(distilled: bool = False) -> ModularPipeline:
    """Has another model write a better prompt, and takes two layers of its text encoder."""
    transformer = Flux3Transformer2DModel(
        in_channels=16,
        cond_in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=2 * 16,
        timestep_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        flow_map=distilled,
    )
    return pipeline(
        "Flux3DistilledModularPipeline" if distilled else "Flux3ModularPipeline",
        transformer=transformer,
        vae=flux2.vae(),
        text_encoder=qwen3_vl(3),
        tokenizer=qwen_processor("Qwen3VLProcessor"),
        prompt_upsampler=qwen3_vl(),
        prompt_upsampler_processor=qwen_processor("Qwen3VLProcessor"),
    )


_READ = {"text_encoder_out_layers": [1, 2], "max_new_tokens": 8}
_FLUX3: dict[str, Any] = {**NEGATED, **_READ}
_DISTILLED: dict[str, Any] = {**TEXT, **_READ}


def anima() -> ModularPipeline:
    """A text encoder's words, heard by a second one that reads them as T5 would."""
    conditioner = AnimaTextConditioner(
        source_dim=32,
        target_dim=32,
        model_dim=32,
        num_layers=1,
        num_attention_heads=2,
        target_vocab_size=VOCABULARY,
        min_sequence_length=16,
    )
    transformer = CosmosTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=32,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        concat_padding_mask=False,  # that of others needs torchvision
        extra_pos_embed_type=None,
    )
    return pipeline(
        "AnimaModularPipeline",
        text_encoder=qwen3(),
        tokenizer=byte_tokenizer(512),
        t5_tokenizer=byte_tokenizer(512),
        text_conditioner=conditioner,
        transformer=transformer,
        vae=qwenimage.vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


_MUSIC_WIDTH = 16
_SOUND_TOKENS = 151_675 + 16_384  # the pipeline knows where those of sounds begin


def music3() -> ModularPipeline:
    """A language model that writes sounds, and a flow that renders them; 25 frames a second."""
    language = hf.Qwen3Config(
        hidden_size=_MUSIC_WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        vocab_size=_SOUND_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return pipeline(
        "MiniMaxMusic3ModularPipeline",
        tokenizer=byte_tokenizer(2048),
        language_model=hf.Qwen3ForCausalLM(language).eval(),
        rvq_depth_decoder=MiniMaxMusic3RVQDepthDecoder(
            hidden_size=_MUSIC_WIDTH,
            num_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            audio_vocab_size=16,
        ),
        condition_encoder=MiniMaxMusic3ConditionEncoder(
            condition_hidden_dim=_MUSIC_WIDTH, out_dim=16
        ),
        transformer=MiniMaxMusic3Transformer1DModel(
            in_channels=8,
            condition_dim=16,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=8,
            ff_inner_dim=32,
            rotary_dim=4,
            fourier_embedding_dim=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vocoder=MiniMaxMusic3Vocoder(latent_channels=8, decoder_input_dim=8, decoder_hidden_dim=16),
    )


def minimax_h3() -> ModularPipeline:
    """Takes a layer from the middle of a text encoder of more than 50. A film has 124 frames at
    least; what it makes to hear has 160 samples a second."""
    transformer = MiniMaxH3Transformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        hidden_size=32,
        num_layers=1,
        num_refiner_layers=1,
        ffn_dim=32,
        in_channels=4,
        audio_in_channels=4,
        text_dim=16,
        freq_dim=16,
        time_embed_hidden_dim=16,
        time_embed_dim=16,
        rope_freq_dim=2,
    )
    vae = AutoencoderKLMiniMaxH3(
        latent_channels=4,
        block_out_channels=(4, 4, 4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        decoder_num_layers=1,
        decoder_num_attention_heads=2,
        decoder_attention_head_dim=16,
        decoder_num_register_tokens=1,
        decoder_ffn_mult=1,
        latents_mean=(0.1, 0.0, -0.1, 0.2),
        latents_std=(1.0, 1.5, 2.0, 0.5),
    )
    audio_vae = AutoencoderKLMiniMaxH3Audio(
        encoder_dim=4,
        encoder_rates=(2, 2),
        latent_dim=8,
        latent_channels=4,
        num_attention_heads=2,
        decoder_dim=8,
        decoder_rates=(2, 2),
        decoder_kernel_sizes=(4, 4),
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),),
        sampling_rate=160,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return pipeline(
        "MiniMaxH3ModularPipeline",
        text_encoder=qwen3_vl(51),
        tokenizer=vision_tokenizer(2048),
        processor=qwen_processor("Qwen3VLProcessor"),
        transformer=transformer,
        vae=vae,
        audio_vae=audio_vae,
        scheduler=MiniMaxH3Scheduler(shift=12.0),
        audio_scheduler=MiniMaxH3Scheduler(shift=3.0),
    )


_STEPS = "num_inference_steps"
_ECHO = {
    "prompt": "a robot dances",
    "height": 32,
    "width": 32,
    "num_frames": 5,
    "frame_rate": 25.0,
    "sigmas": [1.0, 0.6, 0.0],
    "max_sequence_length": 32,
}


def krea2(name: str) -> ModularPipeline:
    """Takes twelve layers of a text encoder of 36, always the same."""
    classic = families_krea2.krea2()
    config = {**classic.transformer.config, "num_text_layers": 12}
    return pipeline(
        name,
        scheduler=classic.scheduler,
        vae=classic.vae,
        text_encoder=qwen3_vl(36, hf.Qwen3VLModel),
        tokenizer=classic.tokenizer,
        transformer=type(classic.transformer).from_config(config),
    )


def cosmos3(name: str, **more: Any) -> ModularPipeline:
    """A transformer that reads the text itself; nothing is encoded before it."""
    transformer = Cosmos3OmniTransformer(
        dtype="float32",
        head_dim=16,
        hidden_size=32,
        intermediate_size=32,
        latent_channel=16,
        patch_latent_dim=64,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_key_value_heads=1,
        rope_axes_dim=(4, 2, 2),
        vocab_size=VOCABULARY,
    )
    parts = {
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        **more,
    }
    return pipeline(
        name,
        text_tokenizer=vision_tokenizer(4096),
        transformer=transformer,
        vae=wan_vae(),
        enable_safety_checker=False,
        **parts,
    )


def cosmos3_distilled() -> ModularPipeline:
    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    sigmas = [1.0, 0.6, 0.3]
    return cosmos3("Cosmos3DistilledModularPipeline", scheduler=scheduler, distilled_sigmas=sigmas)


CASES = [
    *(
        Case(name, "text to image", partial(krea2, name), lambda: TEXT)
        for name in ("Krea2ModularPipeline", "Krea2TurboModularPipeline")
    ),
    Case(
        "Cosmos3OmniModularPipeline",
        "text to video",
        lambda: cosmos3("Cosmos3OmniModularPipeline"),
        lambda: {**BOTH, "guidance_scale": 2.0},
    ),
    Case(
        "Cosmos3OmniModularPipeline",
        "image to video",
        lambda: cosmos3("Cosmos3OmniModularPipeline"),
        lambda: {**BOTH, "guidance_scale": 2.0, "image": picture()},
    ),
    Case(
        "Cosmos3DistilledModularPipeline",
        "text to video",
        cosmos3_distilled,
        lambda: {k: v for k, v in BOTH.items() if k not in ("negative_prompt", _STEPS)},
    ),
    Case("Flux3ModularPipeline", "text to image", flux3, lambda: _FLUX3),
    Case(
        "Flux3ModularPipeline",
        "edit",
        flux3,
        lambda: {**_FLUX3, "image": picture(), "num_inference_steps": 2},
    ),
    Case(
        "Flux3DistilledModularPipeline",
        "text to image",
        lambda: flux3(distilled=True),
        lambda: _DISTILLED,
    ),
    Case("AnimaModularPipeline", "text to image", anima, lambda: NEGATED),
    Case(
        "AnimaModularPipeline",
        "image to image",
        anima,
        lambda: {**NEGATED, "image": picture(), "strength": 0.7},
    ),
    Case(
        "MiniMaxMusic3ModularPipeline",
        "lyrics to music",
        music3,
        lambda: {
            "prompt": "a bright song",
            "lyrics": "[verse]\nhello",
            "audio_duration": 0.2,
            "num_inference_steps": 3,
        },
    ),
    Case(
        "MiniMaxH3ModularPipeline",
        "text to video with sound",
        minimax_h3,
        lambda: {**TEXT, "num_frames": 124},
    ),
    Case(
        "EchoModularPipeline",
        "image to video with sound",
        of_classic("EchoModularPipeline", ltx2.text_to_video),
        lambda: {**_ECHO, "image": picture()},
    ),
    Case(
        "EchoModularPipeline",
        "text to video with sound",
        of_classic("EchoModularPipeline", ltx2.text_to_video),
        lambda: _ECHO,
    ),
]
