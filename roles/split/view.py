"""A request's own view of the shared pipeline.

A view has its own attributes, its own timestep schedulers and guiders, and its own faces in the
place of the components; behind the faces all views share the same weights. Pipelines keep their
request's state on self: no two requests ever run on one view.
"""

import copy
from typing import Any

from diffusers import DiffusionPipeline

Pipeline = Any  # diffusers.DiffusionPipeline, whose methods are not typed


def make_view(pipeline: Pipeline, faces: dict[str, Any]) -> Pipeline:
    """A copy that sees `faces` by component or method name, and deep copies of what has state."""
    view = copy.copy(pipeline)
    own = {name: copy.deepcopy(part) for name, part in stateful(pipeline)}
    # past __setattr__, which would write the faces' class names into the shared config
    view.__dict__.update(own | faces)
    view.__dict__["_progress_bar_config"] = {"disable": True}
    for name, inner in vars(pipeline).items():
        if isinstance(inner, DiffusionPipeline):
            view.__dict__[name] = _inner_view(pipeline, view, inner)
    return view


def _inner_view(pipeline: Pipeline, view: Pipeline, inner: Pipeline) -> Pipeline:
    """Of a pipeline that another one runs, with its components: it sees what that one's view
    sees of them."""
    seen = {id(part): getattr(view, name) for name, part in pipeline.components.items()}
    components = inner.components.items()
    return make_view(inner, {name: seen[id(part)] for name, part in components if id(part) in seen})


def schedulers(pipeline: Pipeline) -> list[tuple[str, Any]]:
    """The timestep schedulers of a pipeline, by component name."""
    found = pipeline.components.items()
    return [(name, part) for name, part in found if "scheduler" in name and part is not None]


def is_stateful(name: str) -> bool:
    """Whether the component of that name keeps something from one step to the next: timestep
    schedulers do, and guiders."""
    return "scheduler" in name or "guider" in name


def stateful(pipeline: Pipeline) -> list[tuple[str, Any]]:
    """The components of a pipeline that each request has its own of, by name."""
    found = pipeline.components.items()
    return [(name, part) for name, part in found if is_stateful(name) and part is not None]
