"""Flux and what was made of it."""

from tests.conformance.case import Case
from tests.support.image_pipelines import flux

TEXT = {"prompt": "a red circle", "height": 32, "width": 32, "num_inference_steps": 3}

CASES = [
    Case("FluxPipeline", "text to image", flux, lambda: {**TEXT, "max_sequence_length": 32}),
]
