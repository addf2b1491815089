"""Components of modular pipelines from elsewhere: the pixels of the plain pipeline after
`update_components(NAME=component)`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import CLIPTextModel

from roles.origins import Origins
from roles.split.loading import load
from roles.split.program import ModelError
from tests.conformance import modular
from tests.conformance.suite import cases
from tests.support.pipelines import PARAMS, build
from tests.support.splitting import Arrays, arrays, call, drive, same, through_roles

ROLES = ("encoder", "denoiser", "decoder")
ASKED = {name: value for name, value in PARAMS["flux"].items() if name != "negative_prompt"}
KINDS: dict[str, Any] = {
    "transformer": FluxTransformer2DModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "scheduler": FlowMatchEulerDiscreteScheduler,
}


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = next(x for x in cases() if x.name == "FluxModularPipeline/text-to-image")
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("modular") / "flux"
    modular.save(case.build(), place)
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


def served(folder: Path, told: Origins) -> list[Any]:
    return [load(folder, [role], "float32", origins=told) for role in ROLES]


@pytest.mark.parametrize("names", [["transformer"], ["vae", "scheduler"], list(KINDS)])
def test_replaced_components(names: list[str], flux: Path, other: Path) -> None:
    told = Origins(components={name: str(other) for name in names})
    parts = {name: KINDS[name].from_pretrained(other / name) for name in names}
    known = plainly(flux, **parts)
    roles = served(flux, told)
    assert same(arrays(through_roles(*roles, call(ASKED, 1))), known)
    assert not same(known, plainly(flux))
    whole = load(flux, ["monolithic"], "float32", origins=told)
    assert same(arrays(drive(whole.generate(call(ASKED, 1)))), known)
    assert [each.component for each in whole.info.replaced] == sorted(names)
    marks = {each.info.fingerprint for each in (*roles, whole)}
    assert len(marks) == 1
    assert marks != {load(flux, ["decoder"], "float32").info.fingerprint}


def test_a_replaced_component_in_a_single_file(
    flux: Path, other: Path, tmp_path: Path, folder: Callable[[str], Path]
) -> None:
    weights = other / "transformer" / "diffusion_pytorch_model.safetensors"
    told = Origins(components={"transformer": str(weights)})
    known = plainly(flux, transformer=FluxTransformer2DModel.from_pretrained(other / "transformer"))
    assert same(arrays(through_roles(*served(flux, told), call(ASKED, 1))), known)


def test_what_cannot_be_replaced(flux: Path, other: Path) -> None:
    with pytest.raises(ModelError, match="has no component unet; it has "):
        load(flux, ["decoder"], origins=Origins(components={"unet": str(other)}))
    with pytest.raises(
        ModelError, match="has the class CLIPTextModel; FluxModularPipeline takes a"
    ):
        load(flux, ["decoder"], origins=Origins(components={"vae": f"{other}:text_encoder"}))
