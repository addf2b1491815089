"""Processors of pictures and texts, as vision-language models have them.

Their halves for videos need torchvision, and transformers makes no processor without all its
halves. No pipeline that makes pictures gives them a video, so importing this leaves them out.
"""

from typing import Any

import transformers as hf
from transformers.processing_utils import ProcessorMixin

from tests.support.model_parts import byte_tokenizer

_attributes = ProcessorMixin.get_attributes.__func__


def _without_videos(kind: type[ProcessorMixin]) -> list[str]:
    return [name for name in _attributes(kind) if name != "video_processor"]


if not hf.utils.is_torchvision_available():
    ProcessorMixin.get_attributes = classmethod(_without_videos)


_MARKS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vision_tokenizer(length: int) -> hf.PreTrainedTokenizerFast:
    """The byte tokenizer, with what stands before, for, and behind a picture."""
    tokenizer = byte_tokenizer(length)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": list(_MARKS)}, replace_extra_special_tokens=False
    )
    tokenizer.chat_template = _CHAT
    return tokenizer


def qwen_processor(kind: str, patch: int = 14) -> Any:
    """`kind`: Qwen2VLProcessor, Qwen3VLProcessor, …; `patch`: of its vision model, in pixels."""
    token = (2 * patch) ** 2  # the pixels of one
    pictures = hf.Qwen2VLImageProcessorPil(patch_size=patch, min_pixels=token, max_pixels=4 * token)
    tokenizer = vision_tokenizer(2048)
    return getattr(hf, kind)(
        image_processor=pictures, tokenizer=tokenizer, chat_template=tokenizer.chat_template
    )


def glm_processor() -> Any:
    """GLM-Image's; pictures become patches of 8 pixels."""
    plain = vision_tokenizer(2048)
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<|vision_start|>",
        image_token="<|image_pad|>",
        grid_bos_token="<|im_start|>",
        grid_eos_token="<|im_end|>",
        model_max_length=2048,
    )
    pictures = hf.GlmImageImageProcessorPil(
        patch_size=8,
        temporal_patch_size=1,
        merge_size=1,
        min_pixels=4 * 8 * 8,
        max_pixels=4 * 8 * 8,
    )
    return hf.GlmImageProcessor(pictures, tokenizer, chat_template=plain.chat_template)
