"""The inputs that a modular pipeline's blocks declare, as the signature of a function.

A classic pipeline says in its `__call__` what it takes; everything that reads it there (arguments,
media, descriptions) reads this the same way.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

from diffusers.modular_pipelines.modular_pipeline_utils import INPUT_PARAM_TEMPLATES

_PROMPT = re.compile(r"(negative_)?prompt(_\d+)?")
Blocks = Any  # diffusers' ModularPipelineBlocks, whose methods are not typed


def call_of(blocks: Blocks) -> Callable[..., Any]:
    """A function with the blocks' inputs as its arguments; never called."""

    def call(**inputs: Any) -> None:
        raise NotImplementedError("it only has a signature")

    named = [parameter(one) for one in blocks.inputs if one.name]
    usual = (
        [p for p in named if p.default is p.empty],
        [p for p in named if p.default is not p.empty],
    )
    call.__signature__ = inspect.Signature(usual[0] + usual[1])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in named if p.annotation is not p.empty}
    return call


def parameter(one: Any) -> inspect.Parameter:
    """One input. What a block in the middle requires of those before it has a default as often as
    not: only without one it is required of the request."""
    required = one.required and one.default is None and not _tensor(one.type_hint)
    return inspect.Parameter(
        one.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=inspect.Parameter.empty if required else one.default,
        annotation=_hint(one),
    )


def _hint(one: Any) -> Any:
    """What an input is. Where its block does not say, what diffusers says of inputs of that name;
    and every prompt is text."""
    if one.type_hint is not None:
        return one.type_hint
    template = INPUT_PARAM_TEMPLATES.get(one.name, {}).get("type_hint")
    if template is not None:
        return template
    return str if _PROMPT.fullmatch(one.name) else inspect.Parameter.empty


def _tensor(hint: Any) -> bool:
    return "Tensor" in str(hint)


def outputs_of(blocks: Blocks) -> list[str]:
    """The names of what the blocks write."""
    return [one.name for one in blocks.intermediate_outputs]
