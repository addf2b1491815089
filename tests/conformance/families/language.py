"""Diffusion of texts, and of proteins."""

from typing import Any

import diffusers
import transformers as hf
from diffusers import BlockRefinementScheduler

from tests.conformance.case import Absent, Case
from tests.conformance.parts.processors import vision_tokenizer
from tests.conformance.parts.texts import VOCABULARY


def gemma() -> Any:
    words = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "global_head_dim": 16,
        "num_global_key_value_heads": 1,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 512,
        "num_experts": 2,
        "top_k_experts": 1,
        "moe_intermediate_size": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    }
    vision = {
        "model_type": "gemma4_vision",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "patch_size": 8,
    }
    config = hf.DiffusionGemmaConfig(text_config=words, vision_config=vision, canvas_length=8)
    pipeline = diffusers.DiffusionGemmaPipeline(
        model=hf.DiffusionGemmaForBlockDiffusion(config).eval(),
        scheduler=BlockRefinementScheduler(),
        processor=vision_tokenizer(512),
    )
    # diffusers takes it for a model of its own, since the folders of their code are called alike
    pipeline.register_to_config(model=("transformers", "DiffusionGemmaForBlockDiffusion"))
    return pipeline


CASES = [
    Case(
        "DiffusionGemmaPipeline",
        "text to text",
        gemma,
        lambda: {"prompt": "name a color", "gen_length": 16, "num_inference_steps": 3},
        quirk="model_index.json has to name transformers for its model; diffusers does not write "
        "it so, and cannot load what it saved",
    ),
]

ABSENT = [
    Absent(
        "LLaDA2Pipeline",
        "diffusers does not load what it saves: its tokenizer has a default and is not among the "
        "optional components, so from_pretrained hands the constructor its entry of "
        "model_index.json; and the published models bring Python code of their own",
    ),
    Absent(
        "RFD4ProteinaPipeline",
        "it is called with tensors of molecules, which no request can carry",
    ),
]
