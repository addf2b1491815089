"""Kolors: the UNet of SDXL, with the text encoder of ChatGLM."""

import atexit
import functools
import tempfile
from pathlib import Path

import sentencepiece
import torch
from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig

from tests.conformance.parts.fitting import Parts, case
from tests.conformance.parts.latent_diffusion import sdxl
from tests.conformance.parts.samples import picture

TEXT = {
    "prompt": "a cat",
    "negative_prompt": "a dog",
    "num_inference_steps": 3,
    "max_sequence_length": 32,
}
SIZED = {**TEXT, "height": 32, "width": 32}


@functools.cache
def vocabulary() -> str:
    """A file of sentencepiece's, which the tokenizer reads again when it is saved."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    with (path := Path(folder.name) / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a cat in a tree", "a dog"]),
            model_writer=file,
            vocab_size=280,
            hard_vocab_limit=False,
            byte_fallback=True,
            minloglevel=2,
        )
    return str(path)


def kolors() -> Parts:
    config = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=320,
        hidden_size=32,
        ffn_hidden_size=37,
        kv_channels=8,
        num_attention_heads=4,
        seq_length=64,
        original_rope=True,
    )
    encoder = ChatGLMModel(config, empty_init=False).eval()
    for parameter in encoder.parameters():  # some are memory that nobody wrote to
        if parameter.ndim == 1:
            torch.nn.init.ones_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.05)
    return {
        **sdxl(cross_attention_dim=32),
        "text_encoder": encoder,
        "tokenizer": ChatGLMTokenizer(vocabulary()),
    }


CASES = [
    case("KolorsPipeline", "text to image", kolors, SIZED),
    case(
        "KolorsImg2ImgPipeline",
        "image to image",
        kolors,
        {**TEXT, "image": picture(), "strength": 0.7},
    ),
    case("KolorsPAGPipeline", "text to image", kolors, {**SIZED, "pag_scale": 3.0}),
]
