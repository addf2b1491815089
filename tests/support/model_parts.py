"""Parts of tiny pipelines: VAEs, UNets, text encoders, and tokenizers made without any file."""

from typing import Any

import transformers as hf
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

# the noise schedule of Stable Diffusion
SD_BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
_SPECIAL = ("<pad>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|image_pad|>")
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vae(**config: Any) -> AutoencoderKL:
    """Factor 8, four latent channels."""
    return AutoencoderKL(
        block_out_channels=[8, 8, 16, 16],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        **config,
    )


def unet(cross_attention_dim: int, **config: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{
            "block_out_channels": (32, 64),
            "layers_per_block": 2,
            "sample_size": 4,
            "in_channels": 4,
            "out_channels": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": cross_attention_dim,
            **config,
        }
    )


def clip(projected: bool = False) -> hf.PreTrainedModel:
    config = hf.CLIPTextConfig(
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=3,
        projection_dim=32,
        vocab_size=len(_clip_vocabulary()),
    )
    kind = hf.CLIPTextModelWithProjection if projected else hf.CLIPTextModel
    return kind(config).eval()


def t5(width: int = 32, umt5: bool = False) -> hf.PreTrainedModel:
    config = {
        "d_model": width,
        "d_kv": 8,
        "d_ff": 37,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 256 + len(_SPECIAL),
    }
    if umt5:
        return hf.UMT5EncoderModel(hf.UMT5Config(**config)).eval()
    return hf.T5EncoderModel(hf.T5Config(**config)).eval()


def qwen3() -> hf.PreTrainedModel:
    return hf.Qwen3Model(_qwen3_config()).eval()


def qwen3_lm() -> hf.PreTrainedModel:
    """Deep enough for pipelines that take three of its layers."""
    return hf.Qwen3ForCausalLM(_qwen3_config(layers=28)).eval()


def _qwen3_config(layers: int = 3) -> hf.Qwen3Config:
    return hf.Qwen3Config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        vocab_size=256 + len(_SPECIAL),
        max_position_embeddings=512,
    )


def gemma3() -> hf.PreTrainedModel:
    text = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": 256 + len(_SPECIAL),
    }
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    config = hf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return hf.Gemma3ForConditionalGeneration(config).eval()


def qwen_vl() -> hf.PreTrainedModel:
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 256 + len(_SPECIAL),
        "rope_parameters": {
            "mrope_section": [1, 1, 2],
            "rope_type": "default",
            "rope_theta": 1000000.0,
        },
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
    }
    image = _SPECIAL.index("<|image_pad|>")
    config = hf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=image)
    return hf.Qwen2_5_VLForConditionalGeneration(config).eval()


def _alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_tokenizer(length: int) -> hf.PreTrainedTokenizerFast:
    """One token per byte, an end token, and a chat template in Qwen's manner."""
    vocabulary = {token: index for index, token in enumerate((*_SPECIAL, *_alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = ("</s>", vocabulary["</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[end])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(_SPECIAL[3:]),
        model_max_length=length,
        chat_template=_CHAT,
    )


def _clip_vocabulary() -> dict[str, int]:
    letters = _alphabet()
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    return {token: index for index, token in enumerate(tokens)}


def clip_tokenizer() -> hf.CLIPTokenizer:
    return hf.CLIPTokenizer(vocab=_clip_vocabulary(), merges=[], model_max_length=77)
