"""Guidance of modular pipelines: a component of its own, with a state, so one for each request.

What a guider is made with (`guidance_scale`, `guidance_rescale`, when it starts and stops) are a
request's to give, under the names that classic pipelines have for them. The second guider of a
pipeline has the rest of its name on them: `guider_2` takes `guidance_scale_2`, `audio_guider`
takes `audio_guidance_scale`.
"""

import copy
import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from diffusers.guiders.guider_utils import BaseGuidance

from roles.split.program import BadInput
from roles.split.request import inputs
from roles.split.request.inputs import Argument

_GUIDER = "guider"
_ENABLED = "enabled"
_SCALE = "guidance_scale"


class Guiders:
    """Those of one pipeline. `taken`: names that the pipeline's own inputs have."""

    def __init__(self, components: Mapping[str, Any], taken: Collection[str]) -> None:
        self._shared = {k: v for k, v in components.items() if isinstance(v, BaseGuidance)}
        self._known = {
            name: (component, setting, argument)
            for component, guider in self._shared.items()
            for name, setting, argument in _arguments(component, guider)
            if name not in taken
        }

    @property
    def arguments(self) -> dict[str, Argument]:
        """What a request may give, by its name."""
        return {name: argument for name, (_, _, argument) in self._known.items()}

    @property
    def adjusting(self) -> bool:
        """Whether one of them changes the model for some of its forwards."""
        kinds = (type(guider) for guider in self._shared.values())
        return any(kind.prepare_models is not BaseGuidance.prepare_models for kind in kinds)

    def own(self, params: Mapping[str, Any]) -> dict[str, BaseGuidance]:
        """The request's own guiders, by component. Takes of `params` what is theirs. Raises
        BadInput.

        A scale that is given switches on a guider which is off by default: whoever names one wants
        it.
        """
        return {name: self._own(name, guider, params) for name, guider in self._shared.items()}

    def _own(self, component: str, guider: BaseGuidance, params: Mapping[str, Any]) -> BaseGuidance:
        given = {
            setting: params[name]
            for name, (whose, setting, _) in self._known.items()
            if whose == component and params.get(name) is not None
        }
        if not given:
            return copy.deepcopy(guider)
        if _SCALE in given:
            given.setdefault(_ENABLED, True)
        try:
            return guider.new(**given)  # type: ignore[no-any-return, no-untyped-call]
        except ValueError as error:
            named = [name for name, (_, setting, _) in self._known.items() if setting in given]
            raise BadInput(str(error), named[0]) from error


def _arguments(component: str, guider: BaseGuidance) -> Iterator[tuple[str, str, Argument]]:
    """For each setting of a guider what a request calls it, its own name, and what it takes."""
    before, _, after = component.partition(_GUIDER)
    for setting, argument in inputs.arguments(_made_with(guider)).items():
        name = setting if "guidance" in setting or "scale" in setting else f"guidance_{setting}"
        name = f"{before}{name}{after}"
        yield name, setting, replace(argument, name=name)


def _made_with(guider: BaseGuidance) -> Any:
    """The guider's constructor, with the values that this one has as its defaults."""

    def make(**settings: Any) -> None:
        raise NotImplementedError("it only has a signature")

    written = inspect.signature(type(guider).__init__)
    now = guider.config
    own = [
        parameter.replace(default=now.get(name, parameter.default))
        for name, parameter in written.parameters.items()
        if name != "self" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    make.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    make.__annotations__ = {p.name: p.annotation for p in own if p.annotation is not p.empty}
    return make
