"""A text encoder that is half of a model, in a folder with the config of both halves."""

import json
from pathlib import Path

import torch
import transformers
from diffusers import PRXPipeline  # brings along its class for the encoder
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from roles.split.files.components import Loader
from roles.split.files.folder import find
from roles.split.loading import why_not

SMALL = {
    "vocab_size": 8,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "layer_types": ["full_attention"],
}


def test_its_stand_in_and_the_real_one_are_of_its_own_half(tmp_path: Path) -> None:
    whole = transformers.T5GemmaConfig(encoder=SMALL, decoder=SMALL, is_encoder_decoder=False)
    encoder = T5GemmaEncoder(whole.encoder)
    encoder.config = whole
    encoder.save_pretrained(tmp_path / "text_encoder")
    index = {
        "_class_name": PRXPipeline.__name__,
        "text_encoder": ["transformers", "T5GemmaEncoder"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    folder = find(tmp_path)
    (entry,) = folder.components
    assert why_not(folder) == "it has no transformer or UNet"
    loader = Loader(folder, "float32", torch.device("cpu"))
    for made in (loader.stand_in(entry), loader.real(entry)):
        assert made.config.hidden_size == 16
        assert len(made.layers) == 1
