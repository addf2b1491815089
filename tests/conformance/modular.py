"""What is different of a modular case: how it is made, what goes in, and what the plain pipeline
makes of it."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import ModularPipeline

from roles.split.modular.declared import call_of, outputs_of
from roles.split.modular.stages import divide
from tests.conformance.case import Case

GUIDANCE = "guidance_scale"  # which the plain pipeline takes as a guider
MADE = ("images", "videos", "audio", "audios", "sound", "action")


def is_modular(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ModularPipeline)


def pipeline(name: str, **components: Any) -> ModularPipeline:
    """The modular pipeline of diffusers of that name, with these components and settings."""
    made = getattr(diffusers, name)()
    made.update_components(**components)
    return made


def of_classic(name: str, build: Callable[[], Any], **others: Any) -> Callable[[], ModularPipeline]:
    """A builder of the modular pipeline that has the components and settings of a classic one."""

    def make() -> ModularPipeline:
        classic = build()
        parts = {k: v for k, v in classic.components.items() if v is not None}
        made = getattr(diffusers, name)()
        settings = {k: v for k, v in classic.config.items() if k in made._config_specs}
        parts = {k: v for k, v in parts.items() if k in made._component_specs}
        made.update_components(**(settings | parts | others))
        return made

    return make


def of_case(
    name: str, classic: Case, changed: Mapping[str, Any], others: Mapping[str, Any]
) -> Case:
    """The modular form of a classic case: its parts, but for the `others`, and what it is asked for
    as far as both know it, but for what is `changed`."""
    known = {
        p.name
        for p in inspect.signature(call_signature(getattr(diffusers, name))).parameters.values()
    }

    def arguments() -> Mapping[str, Any]:
        return {k: v for k, v in classic.arguments().items() if k in known} | dict(changed)

    return Case(name, classic.workflow, of_classic(name, classic.build, **others), arguments)


def save(made: Any, folder: Path) -> None:
    """Of a pipeline of either kind."""
    options = {"overwrite_modular_index": True} if is_modular(type(made)) else {}
    made.save_pretrained(str(folder), **options)


def call_signature(kind: type[Any]) -> Callable[..., Any]:
    """A function with the inputs of the pipeline's blocks as its arguments."""
    return call_of(kind()._blocks)


def load(folder: Path, dtype: str) -> Any:
    """The plain pipeline, with its weights."""
    whole = ModularPipeline.from_pretrained(str(folder))
    whole.load_components(dtype=getattr(torch, dtype))
    whole.set_progress_bar_config(disable=True)
    return whole


def plain(
    folder: Path,
    arguments: Mapping[str, Any],
    dtype: str,
    seed: int,
    prepare: Callable[[Any], None] = lambda whole: None,
) -> list[Any]:
    """What a diffusers user gets: the media that the last blocks make. `prepare`: what is done to
    the pipeline before."""
    whole = load(folder, dtype)
    prepare(whole)
    given = dict(arguments)
    known = {one.name for one in whole._blocks.inputs}
    if GUIDANCE in given and GUIDANCE not in known:
        scale = given.pop(GUIDANCE)
        whole.update_components(guider=whole.guider.new(guidance_scale=scale, enabled=True))
    made = outputs_of(list(divide(whole._blocks).values())[-1].blocks)
    if "output_type" in known and {"images", "videos"} & set(made):
        given["output_type"] = "pil"
    state = whole(**given, generator=torch.Generator("cpu").manual_seed(seed))
    found = [(name, state.values.get(name)) for name in made]
    return [_samples(name, value) for name, value in found if name in MADE and value is not None]


def _samples(name: str, value: Any) -> Any:
    """The sounds of a batch one by one, as a sample has them; the rest as it is."""
    return list(value) if name in ("audio", "audios") else value
