"""The demo model's tokenizer and text encoder: a GLM of three layers and some thirty words.

Words that mean nothing to the model ("please", "a", "on") are dropped by the tokenizer, and a few
synonyms are folded ("grey", "large", "under"), so that free wording still works.
"""

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import init
from transformers import GlmConfig, GlmModel, PreTrainedTokenizerFast

from launch.demo.scenes import BACKGROUNDS, COLORS, SHAPES

WIDTH = 96
"""Width of the text embeddings."""
PAD, START, BEGIN = "<|endoftext|>", "[gMASK]", "<sop>"
SYNONYMS = {
    "left": "to the left of|left of",
    "right": "to the right of|right of",
    "above": "on top of|over",
    "below": "underneath|under|beneath",
    "gray": "grey",
    "big": "large|huge",
    "small": "little|tiny",
    "purple": "violet",
}
WORDS = (
    *COLORS,
    *SHAPES,
    *(f"{shape}s" for shape in SHAPES),
    *("two", "small", "big", "above", "below", "left", "right", "background"),
    *BACKGROUNDS,
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: lower case, `[gMASK] <sop>` in front, padding on the left."""
    vocabulary = {word: number for number, word in enumerate((PAD, START, BEGIN, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *_rewrites()])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} {BEGIN} $A", special_tokens=[(START, 1), (BEGIN, 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=PAD,
        unk_token=PAD,
        bos_token=START,
        padding_side="left",
        model_max_length=1024,
    )


def _rewrites() -> list[normalizers.Normalizer]:
    """Synonyms folded, then everything that is no word of the model removed."""
    folded = [
        normalizers.Replace(Regex(rf"\b(?:{others})\b"), word) for word, others in SYNONYMS.items()
    ]
    unknown = rf"\b(?!(?:{'|'.join(WORDS)})\b)\w+|[^\w\s]"
    return [*folded, normalizers.Replace(Regex(unknown), " ")]


def build_text_encoder(vocabulary: int) -> GlmModel:
    """A fresh text encoder of 0.4 M parameters.

    The pipeline reads what goes into the last layer, so that layer is idle and not trained. It
    passes no attention mask either, so padding is a word like others and gets an embedding.
    """
    encoder = GlmModel(_config(vocabulary))
    init.normal_(encoder.embed_tokens.weight, std=encoder.config.initializer_range)
    encoder.embed_tokens.padding_idx = None
    encoder.layers[-1].requires_grad_(False)
    encoder.norm.requires_grad_(False)
    return encoder


def _config(vocabulary: int) -> GlmConfig:
    return GlmConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=32,
        max_position_embeddings=1024,
        initializer_range=0.1,
        rms_norm_eps=1e-5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=[0],
        use_cache=False,
    )
