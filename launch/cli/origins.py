"""The flags that say where a model comes from: the same words for `serve`, `up` and `models`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from launch.cli.values import Parsed

Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])

MODEL_HELP = (
    "A folder in the diffusers format (it has a model_index.json), a hub id, with @ a branch, a "
    "tag or a commit of it, or a checkpoint in a single safetensors file (of a hub: ID:FILE)."
)


def _component(text: str) -> str:
    name, sign, source = text.partition("=")
    if not (sign and name.isidentifier() and source):
        raise ValueError(f"{text!r} is no component; write NAME=DIR_OR_ID[@REVISION][:SUBFOLDER]")
    return text


def origin_flags(function: Wrapped) -> Wrapped:
    component = click.option(
        "--component",
        type=Parsed("name=source", _component),
        multiple=True,
        metavar="NAME=DIR|FILE|ID[@REVISION][:SUBFOLDER|:FILE]",
        help="A component from elsewhere: another text encoder, a quantized transformer, a VAE, a "
        "scheduler. Its own folder, or that of a pipeline with one of this name. May be given "
        "several times; all roles need the same. [default: the model's own]",
    )
    variant = click.option(
        "--variant",
        metavar="NAME",
        help="Of the weights, where components have files of it: fp16 reads "
        "model.fp16.safetensors. [default: those without such a name]",
    )
    config = click.option(
        "--model-config",
        metavar="DIR_OR_ID[@REVISION]",
        help="Of a --model that is a single file: the pipeline that it is of, from where its "
        "configs come, and what the file does not hold. [default: as diffusers takes it for, which "
        "needs a hub]",
    )
    return config(component(variant(function)))
