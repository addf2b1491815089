"""A request's own view of the shared pipeline.

A view has its own attributes, its own timestep schedulers and guiders, and its own faces in the
place of the components; behind the faces all views share the same weights. Pipelines keep their
request's state on self: no two requests ever run on one view.
"""

import copy
from collections.abc import Mapping
from typing import Any

Pipeline = Any  # diffusers.DiffusionPipeline, whose methods are not typed


def make_view(pipeline: Pipeline, faces: dict[str, Any]) -> Pipeline:
    """A copy that sees `faces` by component or method name, and deep copies of what has state."""
    own = {name: copy.deepcopy(part) for name, part in stateful(pipeline)}
    return replaced(pipeline, own | faces)


def replaced(pipeline: Pipeline, parts: Mapping[str, Any]) -> Pipeline:
    """A copy that sees `parts` by component or method name, and so do copies of the pipelines that
    it is made of, where they have the same components."""
    instead = {id(part): parts[n] for n, part in pipeline.components.items() if n in parts}
    copied = copy.copy(pipeline)
    # past __setattr__, which would write the faces' class names into the shared config
    copied.__dict__.update(parts)
    for name, inner in inner_pipelines(pipeline).items():
        shared = {n: instead[id(p)] for n, p in inner.components.items() if id(p) in instead}
        copied.__dict__[name] = replaced(inner, shared)
    copied.__dict__["_progress_bar_config"] = {"disable": True}
    return copied


def inner_pipelines(pipeline: Pipeline) -> dict[str, Pipeline]:
    """The pipelines that a pipeline has made of its components, by attribute."""
    from diffusers import DiffusionPipeline  # which a rank without one need not wait for

    return {name: v for name, v in vars(pipeline).items() if isinstance(v, DiffusionPipeline)}


def schedulers(pipeline: Pipeline) -> list[tuple[str, Any]]:
    """The timestep schedulers of a pipeline, by attribute."""
    found = _parts(pipeline).items()
    return [(name, part) for name, part in found if "scheduler" in name and part is not None]


def is_stateful(name: str) -> bool:
    """Whether the component of that name keeps something from one step to the next: timestep
    schedulers do, and guiders."""
    return "scheduler" in name or "guider" in name


def stateful(pipeline: Pipeline) -> list[tuple[str, Any]]:
    """The parts of a pipeline that each request has its own of, by attribute."""
    found = _parts(pipeline).items()
    return [(name, part) for name, part in found if is_stateful(name) and part is not None]


def _parts(pipeline: Pipeline) -> dict[str, Any]:
    """Its components, and the schedulers that diffusers does not count among them, because their
    classes make one where they are given none."""
    own = {name: v for name, v in vars(pipeline).items() if hasattr(v, "set_timesteps")}
    components: dict[str, Any] = pipeline.components
    return own | components
