"""Components of modular pipelines from elsewhere: the pixels of the plain pipeline after
`update_components(NAME=component)`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import CLIPTextModel

from roles.origins import Origins
from roles.split.loading import load
from roles.split.program import ModelError
from tests.conformance import modular
from tests.support.pipelines import PARAMS, build
from tests.support.splitting import Arrays, arrays, call, drive, same, through_roles

ROLES = ("encoder", "denoiser", "decoder")
ASKED = PARAMS["flux"]
KINDS: dict[str, Any] = {
    "transformer": FluxTransformer2DModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "scheduler": FlowMatchEulerDiscreteScheduler,
}


@pytest.fixture(scope="module")
def flux(folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    def classic() -> Any:
        return FluxPipeline.from_pretrained(folder("flux"))

    place = tmp_path_factory.mktemp("modular") / "flux"
    modular.save(modular.of_classic("FluxModularPipeline", classic)(), place)
    return place


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classic pipeline, of which parts are taken."""
    place = build("flux", tmp_path_factory.mktemp("others") / "classic", seed=7)
    FlowMatchEulerDiscreteScheduler(shift=7.0).save_pretrained(place / "scheduler")
    return place


def plainly(folder: Path, **components: Any) -> Arrays:
    (pictures,) = modular.plain(
        folder, ASKED, "float32", 1, lambda whole: whole.update_components(**components)
    )
    return [np.asarray(picture) for picture in pictures]


def test_replaced_components(flux: Path, other: Path) -> None:
    """The transformer from a single file."""
    places = dict.fromkeys(KINDS, str(other))
    places["transformer"] = str(other / "transformer" / "diffusion_pytorch_model.safetensors")
    told = Origins(components=places)
    parts = {name: kind.from_pretrained(other / name) for name, kind in KINDS.items()}
    known = plainly(flux, **parts)
    roles = [load(flux, [role], "float32", origins=told) for role in ROLES]
    assert same(arrays(through_roles(*roles, call(ASKED, 1))), known)
    for name in parts:  # each of them matters
        assert not same(known, plainly(flux, **{n: x for n, x in parts.items() if n != name}))
    whole = load(flux, ["monolithic"], "float32", origins=told)
    assert same(arrays(drive(whole.generate(call(ASKED, 1)))), known)
    assert [each.component for each in whole.info.replaced] == sorted(KINDS)
    marks = {each.info.fingerprint for each in (*roles, whole)}
    assert len(marks) == 1
    assert marks != {load(flux, ["decoder"], "float32").info.fingerprint}


def test_what_cannot_be_replaced(flux: Path, other: Path) -> None:
    with pytest.raises(ModelError, match="has no component unet; it has "):
        load(flux, ["decoder"], origins=Origins(components={"unet": str(other)}))
    told = Origins(components={"vae": f"{other}:text_encoder"})
    with pytest.raises(
        ModelError, match="has the class CLIPTextModel; FluxModularPipeline takes a"
    ):
        load(flux, ["decoder"], origins=told)
