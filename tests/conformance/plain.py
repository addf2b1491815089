"""The plain pipeline beside a case: what a user of diffusers calls, and what he gets."""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from roles.split.describe import modality
from roles.split.outputs import output_type, writes_texts
from tests.support.splitting import Arrays


def load(kind: Any, folder: Path, dtype: str) -> Any:
    pipeline = kind.from_pretrained(folder, dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def made_by(pipeline: Any, arguments: Mapping[str, Any], seed: int) -> Arrays:
    """All pictures, frames and sounds that it makes."""
    known = inspect.signature(type(pipeline).__call__).parameters
    given = dict(arguments)
    if "generator" in known:
        given["generator"] = torch.Generator("cpu").manual_seed(seed)
    pictures = modality(pipeline) != "audio" and not writes_texts(type(pipeline))
    if pictures and (shown := output_type(pipeline)):
        given.setdefault("output_type", shown)
    torch.manual_seed(seed)  # some draw from the global generator
    output = pipeline(**given)
    return arrays([output[name] for name in output.keys()])  # noqa: SIM118


def arrays(value: Any) -> Arrays:
    """All arrays in what a pipeline gave, in order."""
    return list(_arrays(value))


def _arrays(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield value.float().cpu().numpy()
    elif isinstance(value, (Image.Image, np.ndarray)):
        yield np.asarray(value)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _arrays(one)
