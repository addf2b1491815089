"""A request's own view of a pipeline, and of those that it runs."""

import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from roles.split.face import Face
from roles.split.view import make_view


class Inner(DiffusionPipeline):
    def __init__(self, prior: torch.nn.Module, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(prior=prior, scheduler=scheduler)


class Outer(DiffusionPipeline):
    """As the combined pipelines of diffusers: it runs another pipeline, with its own components."""

    def __init__(self, prior_prior: torch.nn.Module, prior_scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.register_modules(prior_prior=prior_prior, prior_scheduler=prior_scheduler)
        self.prior_pipe = Inner(prior_prior, prior_scheduler)


def test_a_pipeline_that_is_run_by_another_one_sees_the_same_faces():
    whole = Outer(torch.nn.Linear(1, 1), DDIMScheduler())
    face = Face(whole.prior_prior)
    view = make_view(whole, {"prior_prior": face})
    assert view.prior_pipe.__dict__["prior"] is view.__dict__["prior_prior"] is face
    assert view.prior_pipe.scheduler is view.prior_scheduler
    assert view.prior_pipe.scheduler is not whole.prior_scheduler
    assert whole.prior_pipe.prior is whole.prior_prior


def test_requests_have_each_their_own():
    whole = Outer(torch.nn.Linear(1, 1), DDIMScheduler())
    one, other = make_view(whole, {}), make_view(whole, {})
    assert one.prior_pipe is not other.prior_pipe
    assert one.prior_pipe.scheduler is not other.prior_pipe.scheduler
