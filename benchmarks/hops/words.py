"""Tokenizers that need no file: a word or a mark is a token.

How many tokens a text has matters only where nothing pads it. English has about four tokens for
three words in the vocabularies of these models, so such a row is a little less than what a real
prompt of as many words takes.
"""

from typing import Any

import transformers as hf
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from tests.conformance.parts import processors as _without_torchvision  # noqa: F401  patches it

_SPECIAL = ("<pad>", "</s>", "<unk>", "<s>")
_MARKS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<image>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|begin_of_text|>",
)
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPLIT = Regex(r"\w+|[^\w\s]|\n+")


def words(length: int) -> hf.PreTrainedTokenizerFast:
    """`length`: of the longest text, in tokens; what pads, pads to it unless it is told another."""
    vocabulary = {token: index for index, token in enumerate((*_SPECIAL, *_MARKS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(_SPLIT, "removed", invert=True)
    end = [("</s>", vocabulary["</s>"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=end)
    made = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(_MARKS),
        model_max_length=length,
    )
    made.chat_template = _CHAT
    return made


def mark(token: str) -> int:
    """The number of a special token."""
    return (*_SPECIAL, *_MARKS).index(token)


def seeing(kind: str, length: int = 32768) -> Any:
    """`kind`: a processor of Qwen's, with its bounds of 4 to 16384 patches of 28 pixels a side."""
    tokenizer = words(length)
    token = 28**2
    pictures = hf.Qwen2VLImageProcessorPil(min_pixels=4 * token, max_pixels=16384 * token)
    return getattr(hf, kind)(
        image_processor=pictures, tokenizer=tokenizer, chat_template=tokenizer.chat_template
    )
