"""The text encoders that published models share, by the sizes of their own config.json."""

from typing import Any

import transformers as hf

from benchmarks.hops.hollow import language
from benchmarks.hops.words import mark, seeing, words

CLIP_TOKENS = 77


def clip_l(projected: bool = False) -> Any:
    """openai/clip-vit-large-patch14."""
    config = hf.CLIPTextConfig(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
    )
    return language(_clip(projected), config)


def clip_g() -> Any:
    """laion/CLIP-ViT-bigG-14-laion2B-39B-b160k."""
    config = hf.CLIPTextConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
        hidden_act="gelu",
    )
    return language(hf.CLIPTextModelWithProjection, config)


def clip_h_eyes() -> Any:
    """laion/CLIP-ViT-H-14-laion2B-s32B-b79K, the half that sees."""
    config = hf.CLIPVisionConfig(
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=16,
        projection_dim=1024,
        patch_size=14,
        hidden_act="gelu",
    )
    return language(hf.CLIPVisionModel, config)


def _clip(projected: bool) -> Any:
    return hf.CLIPTextModelWithProjection if projected else hf.CLIPTextModel


def t5(kind: str = "xxl") -> Any:
    """The encoder of google/t5-v1_1-xxl; of google-t5/t5-11b or t5-base; of a ByT5-small that reads
    glyphs (Glyph-SDXL-v2)."""
    sizes = {
        "xxl": {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
        "11b": {"d_model": 1024, "d_kv": 128, "d_ff": 65536, "num_layers": 24, "num_heads": 128},
        "base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
        "glyphs": {"d_model": 1472, "d_kv": 64, "d_ff": 3584, "num_layers": 12, "num_heads": 6},
    }
    gated = "relu" if kind in ("11b", "base") else "gated-gelu"
    vocabulary = 1510 if kind == "glyphs" else 32128
    config = hf.T5Config(**sizes[kind], feed_forward_proj=gated, vocab_size=vocabulary)
    return language(hf.T5EncoderModel, config)


def umt5_xxl() -> Any:
    """google/umt5-xxl."""
    config = hf.UMT5Config(
        d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, vocab_size=256384
    )
    return language(hf.UMT5EncoderModel, config)


_QWEN = {"vocab_size": 151936, "max_position_embeddings": 40960}


def qwen3(size: str, headed: bool = False) -> Any:
    """Qwen/Qwen3-4B or Qwen3-8B. `headed`: with the head that would write."""
    widths = {"4B": (2560, 9728), "8B": (4096, 12288)}[size]
    config = hf.Qwen3Config(
        hidden_size=widths[0],
        intermediate_size=widths[1],
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=size == "4B",
        **_QWEN,
    )
    return language(hf.Qwen3ForCausalLM if headed else hf.Qwen3Model, config)


_QWEN_VL_WORDS: dict[str, Any] = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 128000,
    "rope_parameters": {
        "mrope_section": [16, 24, 24],
        "rope_type": "default",
        "rope_theta": 1000000.0,
    },
}


def qwen_vl() -> Any:
    """Qwen/Qwen2.5-VL-7B-Instruct."""
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    config = hf.Qwen2_5_VLConfig(
        text_config=_QWEN_VL_WORDS,
        vision_config=vision,
        image_token_id=mark("<|image_pad|>"),
        video_token_id=mark("<|video_pad|>"),
        vision_start_token_id=mark("<|vision_start|>"),
        vision_end_token_id=mark("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    return language(hf.Qwen2_5_VLForConditionalGeneration, config)


def qwen_vl_words() -> Any:
    """The same without its eyes and its head."""
    config = hf.Qwen2_5_VLTextConfig(**_QWEN_VL_WORDS, use_sliding_window=False)
    return language(hf.Qwen2_5_VLTextModel, config)


def llama() -> Any:
    """The language model of xtuner/llava-llama-3-8b-v1_1-transformers."""
    config = hf.LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128320,
        max_position_embeddings=8192,
    )
    return language(hf.LlamaModel, config)


def gemma2() -> Any:
    """google/gemma-2-2b-it."""
    config = hf.Gemma2Config(
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=26,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        vocab_size=256000,
    )
    return language(hf.Gemma2Model, config)


def gemma3() -> Any:
    """google/gemma-3-12b-it."""
    text = {
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
        "vocab_size": 262208,
    }
    vision = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
    }
    config = hf.Gemma3Config(text_config=text, vision_config=vision)
    return language(hf.Gemma3ForConditionalGeneration, config)


def mistral() -> Any:
    """mistralai/Mistral-Small-3.2-24B-Instruct-2506."""
    text = {
        "model_type": "mistral",
        "hidden_size": 5120,
        "intermediate_size": 32768,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 131072,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 1540,
        "patch_size": 14,
    }
    config = hf.Mistral3Config(
        text_config=text, vision_config=vision, image_token_index=mark("<|image_pad|>")
    )
    return language(hf.Mistral3ForConditionalGeneration, config)


def with_clip(name: str = "", **more: Any) -> dict[str, Any]:
    """CLIP-L and its tokenizer, as the components with that ending."""
    return {f"text_encoder{name}": clip_l(**more), f"tokenizer{name}": words(CLIP_TOKENS)}


def with_t5(name: str = "", kind: str = "xxl") -> dict[str, Any]:
    return {f"text_encoder{name}": t5(kind), f"tokenizer{name}": words(512)}


def with_qwen_vl(processor: str = "") -> dict[str, Any]:
    """`processor`: the class of the one that comes as its tokenizer."""
    tokenizer = seeing(processor) if processor else words(32768)
    return {"text_encoder": qwen_vl(), "tokenizer": tokenizer}
