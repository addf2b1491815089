"""The inputs that a modular pipeline's blocks declare, as the signature of a function.

A classic pipeline says in its `__call__` what it takes; everything that reads it there (arguments,
media, descriptions) reads this the same way.
"""

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from diffusers.modular_pipelines.modular_pipeline import ConditionalPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import INPUT_PARAM_TEMPLATES

from roles.split.modular.computing import is_loop

_PROMPT = re.compile(r"(negative_)?prompt(_\d+)?")
Blocks = Any  # diffusers' ModularPipelineBlocks, whose methods are not typed


def call_of(blocks: Blocks) -> Callable[..., Any]:
    """A function with the blocks' inputs as its arguments; never called."""

    def call(**inputs: Any) -> None:
        raise NotImplementedError("it only has a signature")

    named = [parameter(one, blocks) for one in blocks.inputs if one.name]
    usual = (
        [p for p in named if p.default is p.empty],
        [p for p in named if p.default is not p.empty],
    )
    call.__signature__ = inspect.Signature(usual[0] + usual[1])  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in named if p.annotation is not p.empty}
    return call


def parameter(one: Any, blocks: Blocks) -> inspect.Parameter:
    """One input. Without a default it is required of the request if the first block that reads it
    says so: later ones require what those before them write."""
    required = one.default is None and _required(blocks, one.name)
    return inspect.Parameter(
        one.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=inspect.Parameter.empty if required else one.default,
        annotation=_hint(one),
    )


def _required(block: Blocks, name: str) -> bool:
    """Whether a block goes nowhere without that input, of which it has one."""
    parts = [part for part in block.sub_blocks.values() if name in part.input_names]
    if is_loop(block) or not block.sub_blocks:
        return any(one.required for one in block.inputs if one.name == name)
    if isinstance(block, ConditionalPipelineBlocks):
        always = block.default_block_name is not None and len(parts) == len(block.sub_blocks)
        return always and all(_required(part, name) for part in parts)
    return _required(parts[0], name)


def _hint(one: Any) -> Any:
    """What an input is. Where its block does not say, what its default has inside, or diffusers
    says of inputs of that name; and every prompt is text."""
    if not _vague(one.type_hint):
        return one.type_hint
    if isinstance(one.default, list | tuple) and one.default:
        return list[type(one.default[0])]  # type: ignore[misc]
    template: Any = INPUT_PARAM_TEMPLATES.get(one.name)
    template = template and template.get("type_hint")
    if template is not None:
        return template
    return str if _PROMPT.fullmatch(one.name) else inspect.Parameter.empty


def _vague(hint: Any) -> bool:
    """Whether a hint does not say what is in a list."""
    return all(each in (None, Any, list, tuple) for each in typing.get_args(hint) or (hint,))


def outputs_of(blocks: Blocks) -> list[str]:
    """The names of what the blocks write."""
    return [one.name for one in blocks.intermediate_outputs]
