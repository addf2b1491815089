"""The flags that say where a model comes from: the same words for `serve`, `up` and `models`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])

MODEL_HELP = (
    "A folder in the diffusers format (it has a model_index.json), or a hub id; with @ a branch, a "
    "tag or a commit of it."
)


def origin_flags(function: Wrapped) -> Wrapped:
    return click.option(
        "--variant",
        metavar="NAME",
        help="Of the weights, where components have files of it: fp16 reads "
        "model.fp16.safetensors. [default: those without such a name]",
    )(function)
