"""A modular pipeline's blocks as the stages of the roles, and what crosses between them.

Diffusers' modular pipelines all have the same top level: blocks that encode, one that is called
`denoise`, one that decodes. Where none has that name, it is those that call a component which is
named like a denoiser, or else those with a loop.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from diffusers.modular_pipelines.modular_pipeline import PipelineState, SequentialPipelineBlocks

from roles.split.files.components import Part, part_of
from roles.split.modular.computing import computed, declared, is_loop, leaves

DENOISE = "denoise"
PARTS: tuple[Part, ...] = ("encoder", "denoiser", "decoder")
Blocks = Any  # diffusers' ModularPipelineBlocks, whose methods are not typed


@dataclass(frozen=True)
class Stage:
    """The blocks of one role, in their order."""

    part: Part
    blocks: Blocks

    @cached_property
    def reads(self) -> frozenset[str]:
        """The names of the state that its blocks read before they have written them."""
        return frozenset(one.name for one in self.blocks.inputs if one.name)

    @cached_property
    def groups(self) -> frozenset[str]:
        """The groups of names of which its blocks read all that there is."""
        inputs = self.blocks.inputs
        return frozenset(one.kwargs_type for one in inputs if one.name is None and one.kwargs_type)

    @cached_property
    def components(self) -> frozenset[str]:
        """What has to be real here. Of the other roles' components only those that it computes
        with; of its own, and those that are nobody's, all."""
        known, used = declared(self.blocks), computed(self.blocks)
        foreign: Part = "decoder" if self.part == "denoiser" else "denoiser"
        return frozenset(name for name in known if name in used or part_of(name) != foreign)

    @cached_property
    def looped(self) -> frozenset[str]:
        """The components that its loops look at, over and over."""
        loops = [leaf for leaf in leaves(self.blocks) if is_loop(leaf)]
        return frozenset(name for loop in loops for name in declared(loop))


def divide(blocks: Blocks) -> dict[Part, Stage]:
    """The stages that there are; the blocks are shared with whoever gave them."""
    top = _top(blocks)
    denoising = _denoising(top)
    found: dict[Part, dict[str, Blocks]] = {part: {} for part in PARTS}
    for index, (name, block) in enumerate(top.items()):
        found[_part(index, denoising)][name] = block
    return {
        part: Stage(part, SequentialPipelineBlocks.from_blocks_dict(parts))
        for part, parts in found.items()
        if parts
    }


def _top(blocks: Blocks) -> Mapping[str, Blocks]:
    while len(blocks.sub_blocks) == 1 and not is_loop(blocks):
        (blocks,) = blocks.sub_blocks.values()
    return blocks.sub_blocks or {"": blocks}


def _denoising(top: Mapping[str, Blocks]) -> range:
    """The places of the blocks that denoise."""
    named = [name.split(".")[0] == DENOISE for name in top]
    calling = [any(part_of(x) == "denoiser" for x in computed(b)) for b in top.values()]
    looping = [any(map(is_loop, leaves(block))) for block in top.values()]
    for found in (named, calling, looping):
        if places := [index for index, it in enumerate(found) if it]:
            return range(places[0], places[-1] + 1)
    return range(len(top), len(top))


def _part(index: int, denoising: range) -> Part:
    if index in denoising:
        return "denoiser"
    return "encoder" if index < denoising.start else "decoder"


def why_not(stages: Mapping[Part, Stage]) -> str | None:
    """Why a pipeline cannot be split; None if it can."""
    missing = {
        "denoiser": "it has no block that denoises",
        "encoder": "nothing comes before the block that denoises",
        "decoder": "nothing comes after the block that denoises",
    }
    return next((words for part, words in missing.items() if part not in stages), None)


# ---------------------------------------------------------------- the state that crosses


def begin(blocks: Blocks, given: Mapping[str, Any]) -> PipelineState:
    """The state that a pipeline begins with: what it was given, and the defaults of the rest."""
    state = PipelineState()
    for one in blocks.inputs:
        if one.name is not None and one.name not in state.values:
            value = given[one.name] if one.name in given else copy.deepcopy(one.default)
            state.set(one.name, value, one.kwargs_type)
    return state


def kept(state: PipelineState, later: Iterable[Stage]) -> dict[str, Any]:
    """What the stages that come later read of a state, as plain values and tensors."""
    stages = list(later)
    names = {name for stage in stages for name in stage.reads}
    wanted = {group for stage in stages for group in stage.groups}
    groups = {g: list(dict.fromkeys(n)) for g, n in state.kwargs_mapping.items() if g in wanted}
    names.update(name for members in groups.values() for name in members)
    values = {n: v for n, v in state.values.items() if n in names and v is not None}
    return {"values": values, "groups": groups}


def restored(payload: Mapping[str, Any], generator: torch.Generator) -> PipelineState:
    """The state of a payload. `generator` goes on where the one in the payload stood."""
    values = dict(payload["values"])
    for name, value in values.items():
        if isinstance(value, torch.Generator):
            generator.set_state(value.get_state())
            values[name] = generator
    groups = {group: list(members) for group, members in payload["groups"].items()}
    return PipelineState(values=values, kwargs_mapping=groups)
