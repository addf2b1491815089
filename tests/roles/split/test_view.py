"""Views of a pipeline: its own schedulers and faces, in the pipelines that it is made of too."""

from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from roles.split.decoding.outputs import output_type
from roles.split.view import inner_pipelines, make_view, schedulers


class Part(DiffusionPipeline):  # type: ignore[misc]
    def __init__(self, denoiser: Any, timesteps: Any) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, timesteps=timesteps)


class Whole(DiffusionPipeline):  # type: ignore[misc]
    """Has a pipeline of its own components, which that one calls otherwise."""

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.part = Part(unet, scheduler)

    def __call__(self, prompt: str, output_type: str = "text") -> None: ...


def test_a_pipeline_inside_of_a_view_sees_the_same_faces_and_schedulers() -> None:
    whole = Whole(torch.nn.Linear(1, 1), DDIMScheduler())
    real, shared = whole.unet, whole.scheduler
    face = object()
    view = make_view(whole, {"unet": face, "encode_prompt": face})
    assert view.unet is view.part.denoiser is face
    assert view.scheduler is view.part.timesteps
    assert view.scheduler is not shared
    assert whole.part.denoiser is real
    assert whole.part.timesteps is shared
    assert "encode_prompt" not in vars(view.part)


def test_pipelines_inside_are_found() -> None:
    whole = Whole(torch.nn.Linear(1, 1), DDIMScheduler())
    assert inner_pipelines(whole) == {"part": whole.part}
    assert inner_pipelines(whole.part) == {}


def test_a_pipeline_whose_output_is_text_by_default_is_not_asked_for_pictures() -> None:
    assert output_type(Whole(torch.nn.Linear(1, 1), DDIMScheduler())) is None


class Maker(DiffusionPipeline):  # type: ignore[misc]
    """Makes a scheduler where it is given none: so diffusers does not count it as a component."""

    def __init__(self, unet: Any, scheduler: Any = None) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler or DDIMScheduler())


def test_a_scheduler_that_is_no_component_is_each_request_s_own() -> None:
    pipeline = Maker(torch.nn.Linear(1, 1))
    assert "scheduler" not in pipeline.components
    views = [make_view(pipeline, {}) for _ in range(2)]
    assert len({id(each.scheduler) for each in (pipeline, *views)}) == 3
    assert [name for name, _ in schedulers(views[0])] == ["scheduler"]
