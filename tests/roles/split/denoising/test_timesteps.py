"""Which models take a timestep for each sample, read from their own source."""

import pytest
from diffusers import (
    ControlNetModel,
    FluxTransformer2DModel,
    Kandinsky3UNet,
    UNet2DConditionModel,
    UNet2DModel,
)

from roles.split.denoising.timesteps import spreads


@pytest.mark.parametrize(
    "kind", [UNet2DConditionModel, UNet2DModel, ControlNetModel, Kandinsky3UNet]
)
def test_one_that_makes_many_of_one_takes_many(kind: type) -> None:
    assert spreads(kind)


@pytest.mark.parametrize("kind", [FluxTransformer2DModel, object, dict])
def test_of_others_nothing_is_assumed(kind: type) -> None:
    assert not spreads(kind)
