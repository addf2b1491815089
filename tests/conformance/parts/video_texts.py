"""Text encoders and tokenizers beside those of `tests.support.model_parts`."""

import re
from typing import Any

import transformers as hf
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

WIDTH = 32
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
BYTES = 262  # the vocabulary of `byte_tokenizer`
CHANGING = {"mrope_section": [1, 3, 4], "rope_type": "default", "rope_theta": 1000000.0}


def word_tokenizer(text: str, special: tuple[str, ...], length: int) -> Any:
    """One token for each word, mark and newline of a text; letters for other words. Begins with
    `<s>`. For pipelines that count the tokens of their own templates."""
    words = dict.fromkeys(re.findall(r"\w+|[^\w\s]|\n+", text))
    letters = dict.fromkeys("abcdefghijklmnopqrstuvwxyz")
    tokens = ["<s>", "</s>", "<pad>", "<unk>", *special, *(words | letters)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    split = Regex(r"\w+|[^\w\s]|\n+")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(split, "removed", invert=True)
    begin = [("<s>", vocabulary["<s>"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=begin)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=list(special),
        model_max_length=length,
    )


def llama(vocabulary: int = BYTES, **config: Any) -> hf.PreTrainedModel:
    return hf.LlamaModel(hf.LlamaConfig(**{**SIZES, "vocab_size": vocabulary, **config})).eval()


def gemma2(**config: Any) -> hf.PreTrainedModel:
    told = hf.Gemma2Config(**{**SIZES, "vocab_size": BYTES, "head_dim": 16, **config})
    return hf.Gemma2Model(told).eval()


def qwen_text() -> hf.PreTrainedModel:
    """The language model of a Qwen 2.5 VL, without its eyes."""
    config = hf.Qwen2_5_VLTextConfig(
        **SIZES, vocab_size=BYTES, rope_parameters={**CHANGING}, use_sliding_window=False
    )
    return hf.Qwen2_5_VLTextModel(config).eval()
