"""Text encoders that are language models, all of the same small size."""

from typing import Any

import transformers as hf

from tests.support.model_parts import byte_tokenizer

VOCABULARY = len(byte_tokenizer(8))


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
