"""Text encoders that are language models, all of the same small size."""

from typing import Any

import transformers as hf

from tests.conformance.parts.processors import vision_tokenizer

VOCABULARY = len(vision_tokenizer(8))


def mark(token: str) -> int:
    """What the vision tokenizer makes of a special token."""
    found: int = vision_tokenizer(8).convert_tokens_to_ids(token)
    return found


def language_model(config: type[Any], model: type[Any], **more: Any) -> hf.PreTrainedModel:
    """A model of two layers of width 32, for the byte tokenizer."""
    return model(
        config(
            **{
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 16,
                "vocab_size": VOCABULARY,
                "max_position_embeddings": 512,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "eos_token_id": 1,
                **more,
            }
        )
    ).eval()


def gemma2() -> hf.PreTrainedModel:
    return language_model(hf.Gemma2Config, hf.Gemma2Model, query_pre_attn_scalar=16)


def bert() -> hf.PreTrainedModel:
    return hf.BertModel(
        hf.BertConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=VOCABULARY,
        )
    ).eval()


def _marks() -> dict[str, int]:
    """What a vision-language model's config says of the tokens around a picture."""
    return {
        "image_token_id": mark("<|image_pad|>"),
        "video_token_id": mark("<|video_pad|>"),
        "vision_start_token_id": mark("<|vision_start|>"),
        "vision_end_token_id": mark("<|vision_end|>"),
    }


def _sights(width: int) -> dict[str, int]:
    return {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": width,
    }


def qwen2_5_vl(width: int = 16) -> hf.PreTrainedModel:
    """Sees patches of 14 pixels."""
    words = {
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "rope_parameters": {
            "mrope_section": [1, 1, width // 4 - 2],
            "rope_type": "default",
            "rope_theta": 1000000.0,
        },
    }
    config = hf.Qwen2_5_VLConfig(text_config=words, vision_config=_sights(width), **_marks())
    return hf.Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen3_vl(
    layers: int = 2, kind: Any = hf.Qwen3VLForConditionalGeneration, patch: int = 14
) -> Any:
    """Of width 16; sees patches of so many pixels."""
    words = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": VOCABULARY,
        "rope_parameters": {
            "mrope_section": [1, 1, 2],
            "rope_type": "default",
            "rope_theta": 1000000.0,
        },
    }
    vision = {**_sights(16), "patch_size": patch, "deepstack_visual_indexes": [0]}
    config = hf.Qwen3VLConfig(text_config=words, vision_config=vision, **_marks())
    return kind(config).eval()
