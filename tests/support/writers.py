"""Tiny pipelines whose encoders write something first, and tiny models that write.

No torchvision is needed: the processor of Flux2 is a tokenizer here, which is all of it that reads
text. It has no class in transformers, so this pipeline is used as it is and not from a folder.
"""

from typing import Any

import transformers as hf
from diffusers import (
    AutoencoderKLFlux2,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2Pipeline,
    Flux2Transformer2DModel,
)

from tests.support.model_parts import byte_tokenizer, qwen3

WORDS = 262  # tokens that the byte tokenizer knows
_PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class TextProcessor(hf.PreTrainedTokenizerFast):
    """A processor, as far as texts go."""

    @property
    def tokenizer(self) -> "TextProcessor":
        return self


def text_processor(length: int) -> TextProcessor:
    plain = byte_tokenizer(length)
    return TextProcessor(
        tokenizer_object=plain.backend_tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=length,
        chat_template=_PARTS,
    )


def mistral3(layers: int = 31) -> hf.PreTrainedModel:
    """A vision-language model. One word in sixteen ends what it writes."""
    text = {
        "model_type": "mistral",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": WORDS,
        "max_position_embeddings": 4096,
        "sliding_window": None,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    config = hf.Mistral3Config(text_config=text, vision_config=vision, image_token_index=5)
    return ending(hf.Mistral3ForConditionalGeneration(config).eval())


def ending(model: Any, every: int = 16) -> Any:
    """A random model never says that it has ended; this one does, now and then."""
    model.generation_config.eos_token_id = list(range(0, WORDS, every))
    model.generation_config.pad_token_id = 0
    return model


def ministral(layers: int = 2, **config: Any) -> hf.PreTrainedModel:
    given = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": WORDS,
        "max_position_embeddings": 1 << 18,
        "sliding_window": None,
    }
    return hf.Ministral3ForCausalLM(hf.Ministral3Config(**given | config)).eval()


def _vae() -> AutoencoderKLFlux2:
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 1.5)
    return vae


def flux2() -> Flux2Pipeline:
    """Writes a better prompt if `caption_upsample_temperature` is given."""
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=96,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
    )
    return Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_vae(),
        text_encoder=mistral3(),
        tokenizer=text_processor(2048),
        transformer=transformer,
    )


FLUX2 = {
    "prompt": "a red circle",
    "height": 32,
    "width": 32,
    "num_inference_steps": 2,
    "max_sequence_length": 32,
    "caption_upsample_temperature": 0.5,
}


def ernie_image() -> ErnieImagePipeline:
    """A model of its own, `pe`, writes a better prompt. It can be saved in a folder."""
    transformer = ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=1,
        ffn_hidden_size=48,
        in_channels=16,
        out_channels=16,
        text_in_dim=32,
        rope_axes_dim=(4, 6, 6),
    )
    return ErnieImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(),
        text_encoder=qwen3(),
        tokenizer=byte_tokenizer(32),
        transformer=transformer,
        pe=ministral(),
        pe_tokenizer=byte_tokenizer(WRITTEN),
    )


WRITTEN = 24  # tokens that `pe` writes
ERNIE = {"prompt": "a red circle", "height": 32, "width": 32, "num_inference_steps": 2}
