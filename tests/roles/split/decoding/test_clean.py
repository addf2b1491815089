"""x0 in the middle of a loop, as each kind of timestep scheduler knows it."""

import diffusers
import pytest
import torch

from roles.split.decoding.clean import LastStep

NOISE = [
    "DDIMScheduler",
    "DDPMScheduler",
    "LCMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
]
CLEAN = torch.linspace(-1, 1, 64).reshape(1, 4, 4, 4)


def made(name: str, **config):
    scheduler = getattr(diffusers, name)(**config)
    scheduler.set_timesteps(6)
    return scheduler


def walk(scheduler, outputs):
    """Six steps with a model that knows the clean latents; what is predicted after each."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(CLEAN.shape, generator=generator) * scheduler.init_noise_sigma
    last = LastStep(scheduler)
    assert not last.taken
    found = []
    for i, t in enumerate(scheduler.timesteps[:6]):
        shown = scheduler.scale_model_input(x, t)
        x = scheduler.step(outputs(x, shown, i, t), t, x, return_dict=False)[0]
        found.append(last.clean())
    assert last.values is not None
    return found


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", NOISE)
def test_schedulers_of_noise(name: str, kind: str) -> None:
    scheduler = made(name, prediction_type=kind)

    def output(x, shown, i, t):
        sigmas = getattr(scheduler, "sigmas", None)
        if sigmas is None:
            alpha = scheduler.alphas_cumprod[int(t)]
            signal, noise = alpha**0.5, (1 - alpha) ** 0.5
            epsilon = (x - signal * CLEAN) / noise
        else:
            sigma = sigmas[i]
            signal, noise = 1 / (sigma**2 + 1) ** 0.5, sigma / (sigma**2 + 1) ** 0.5
            epsilon = (x - CLEAN) / sigma
        return epsilon if kind == "epsilon" else signal * epsilon - noise * CLEAN

    for predicted in walk(scheduler, output):
        torch.testing.assert_close(predicted, CLEAN, atol=2e-3, rtol=0)


def test_flows() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(6)
    x = noise = torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(3))
    last = LastStep(scheduler)
    for t in scheduler.timesteps:
        x = scheduler.step(noise - CLEAN, t, x, return_dict=False)[0]
        torch.testing.assert_close(last.clean(), CLEAN, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
        ("UniPCMultistepScheduler", {}),
        ("DEISMultistepScheduler", {}),
    ],
)
def test_solvers_that_keep_their_prediction(name: str, config: dict[str, str]) -> None:
    scheduler = made(name, **config)

    def output(x, shown, i, t):
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[i])
        return (x - alpha * CLEAN) / sigma

    for predicted in walk(scheduler, output)[:-1]:
        if name == "DEISMultistepScheduler":
            assert torch.isfinite(predicted).all()
        else:
            torch.testing.assert_close(predicted, CLEAN, atol=2e-3, rtol=0)


def test_what_is_not_understood_gives_the_latents_of_the_step() -> None:
    class Strange:
        config: dict[str, str] = {}  # noqa: RUF012

        def step(self, model_output, timestep, sample):
            return (sample + model_output,)

    scheduler = Strange()
    last = LastStep(scheduler)
    result = scheduler.step(torch.ones(2), 1, torch.zeros(2))
    assert last.clean() is result[0]
    assert last.values == 1


def test_an_output_object_stays_one() -> None:
    scheduler = made("DDIMScheduler")
    last = LastStep(scheduler)
    result = scheduler.step(torch.zeros(1, 4, 4, 4), scheduler.timesteps[0], CLEAN)
    assert last.values is None
    assert result.prev_sample is not None
    assert last.taken


def test_infinite_predictions_are_not_shown() -> None:
    scheduler = made("DDIMScheduler")
    last = LastStep(scheduler)
    broken = torch.full((1, 4, 4, 4), torch.inf)
    result = scheduler.step(broken, scheduler.timesteps[0], CLEAN, return_dict=False)
    assert last.clean() is result[0]
