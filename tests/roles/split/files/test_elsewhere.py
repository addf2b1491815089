"""Components from elsewhere: the pixels of from_pretrained(..., NAME=component), and what is no
such component."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel

from roles.origins import Origins
from roles.split.files.fingerprint import fingerprint
from roles.split.files.folder import find
from roles.split.loading import load
from roles.split.program import ModelError
from roles.split.survey import survey
from tests.support.fake_hub import FakeHub
from tests.support.model_parts import SD_BETAS, clip, vae
from tests.support.pipelines import PARAMS, build
from tests.support.splitting import arrays, call, drawn, plain, same, through_roles

ROLES = ("encoder", "denoiser", "decoder")
Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> dict[str, Path]:
    """Components by what they are, each in a folder of its own."""
    root = tmp_path_factory.mktemp("others")
    torch.manual_seed(7)
    made = {
        "vae": vae(scaling_factor=0.5),
        "tiny": AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
            latent_channels=4,
        ),
        "text": clip(),
        "euler": EulerDiscreteScheduler(**SD_BETAS),
    }
    for name, component in made.items():
        component.save_pretrained(root / name)
    return {name: root / name for name in made} | {
        "whole": build("sd15", root / "whole", seed=7),
    }


def served(folder, **components):
    told = Origins(components={name: str(place) for name, place in components.items()})
    return [load(folder, [role], "float32", origins=told) for role in ROLES]


def wanted(folder, **components):
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **components)
    return drawn(pipeline, PARAMS["sd15"])


def made(roles):
    return arrays(through_roles(*roles, call(PARAMS["sd15"])))


def test_components_of_the_same_and_of_other_classes(folder, others):
    path = folder("sd15")
    roles = served(path, vae=others["tiny"], text_encoder=others["text"], scheduler=others["euler"])
    pixels = made(roles)
    plainly = {
        "vae": AutoencoderTiny.from_pretrained(others["tiny"]),
        "text_encoder": CLIPTextModel.from_pretrained(others["text"]),
        "scheduler": EulerDiscreteScheduler.from_pretrained(others["euler"]),
    }
    assert same(pixels, wanted(path, **plainly))
    assert not same(pixels, plain(path, PARAMS["sd15"], dtype="float32"))
    parts = [role.pipeline.components for role in roles]
    assert isinstance(parts[2]["vae"], AutoencoderTiny)
    assert {p.device.type for p in parts[1]["vae"].component.parameters()} == {"meta"}
    replaced = {each.component: each.source for each in roles[0].info.replaced}
    assert replaced == {"scheduler": "euler", "text_encoder": "text", "vae": "tiny"}
    assert len({role.info.fingerprint for role in roles}) == 1
    assert roles[0].info.replaced == roles[1].info.replaced == roles[2].info.replaced


@pytest.mark.parametrize("spelling", ["{}", "{}:unet"])
def test_of_another_pipeline_it_is_the_component_of_that_name(spelling, folder, others):
    roles = served(folder("sd15"), unet=spelling.format(others["whole"]))
    plainly = UNet2DConditionModel.from_pretrained(others["whole"], subfolder="unet")
    assert same(made(roles), wanted(folder("sd15"), unet=plainly))
    assert roles[0].info.replaced[0].source == "whole:unet"


def test_nobody_needs_what_was_replaced(folder, others, tmp_path):
    path = shutil.copytree(folder("sd15"), tmp_path / "sd15")
    with_both = served(path, vae=others["vae"])
    shutil.rmtree(path / "vae")
    without = served(path, vae=others["vae"])
    plainly = AutoencoderKL.from_pretrained(others["vae"])
    assert same(made(without), wanted(folder("sd15"), vae=plainly))
    assert without[0].info.fingerprint == with_both[0].info.fingerprint


def test_the_fingerprint_covers_them_by_their_contents(folder, others, tmp_path):
    def of(**components):
        told = Origins(components={name: str(place) for name, place in components.items()})
        return fingerprint(find(folder("sd15"), told))

    copy = shutil.copytree(others["vae"], tmp_path / "other name")
    assert of(vae=others["vae"]) == of(vae=copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.25}))
    fingerprints = [of(), of(vae=others["vae"]), of(vae=copy), of(vae=others["tiny"])]
    assert len(set(fingerprints)) == 4
    assert of(vae=others["vae"], unet=others["whole"]) not in fingerprints


def test_each_role_fetches_its_own_of_a_hubs_components(folder, others, monkeypatch, tmp_path):
    with FakeHub() as hub, hub.asked_by(monkeypatch, tmp_path / "cache"):
        commit = hub.push("someone/sd", folder("sd15"))
        whole = hub.push("someone/whole", others["whole"], "v2")
        single = hub.push("someone/vae", others["vae"])
        told = Origins(
            components={"text_encoder": "someone/whole@v2", "vae": f"someone/vae@{single}"}
        )
        roles = {}
        for role in ROLES:
            before = len(hub.given)
            roles[role] = load(f"someone/sd@{commit}", [role], "float32", origins=told)
            fetched = [name for name in hub.given[before:] if name.endswith(".safetensors")]
            assert (
                fetched
                == {
                    "encoder": ["text_encoder/model.safetensors"],
                    "denoiser": ["unet/diffusion_pytorch_model.safetensors"],
                    "decoder": ["diffusion_pytorch_model.safetensors"],
                }[role]
            )
        assert not any(name.startswith("vae/") for name in hub.given if "config" not in name)
    plainly = {
        "vae": AutoencoderKL.from_pretrained(others["vae"]),
        "text_encoder": CLIPTextModel.from_pretrained(others["whole"], subfolder="text_encoder"),
    }
    assert same(made(roles.values()), wanted(folder("sd15"), **plainly))
    sources = {each.component: each.source for each in roles["encoder"].info.replaced}
    assert sources == {
        "text_encoder": f"someone/whole@{whole}:text_encoder",
        "vae": f"someone/vae@{single}",
    }


def test_a_component_that_the_model_does_without(folder, others):
    index = json.loads((folder("sd15") / "model_index.json").read_text())
    assert index["image_encoder"] == [None, None]
    told = Origins(components={"image_encoder": str(others["text"])})
    parts = load(folder("sd15"), ["encoder"], origins=told).pipeline.components
    assert type(parts["image_encoder"]) is CLIPTextModel
    assert load(folder("sd15"), ["encoder"]).pipeline.components["image_encoder"] is None


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("vea", "vae", "has no component vea; it has feature_extractor, image_encoder, safety_ch"),
        (
            "vae",
            "text",
            "vae: text has the class CLIPTextModel; StableDiffusionPipeline takes a mo",
        ),
        (
            "scheduler",
            "vae",
            "vae has the class AutoencoderKL; .* takes a scheduler there, such as DDIM",
        ),
        ("text_encoder", "euler", "EulerDiscreteScheduler; .* takes a model of transformers"),
        ("tokenizer", "vae", "no such component in it: it has no tokenizer_config.json"),
        ("vae", "nothing", "--component vae=.*nothing: there is no folder"),
    ],
)
def test_what_is_no_such_component(name, place, message, folder, others):
    told = Origins(components={name: str(others.get(place, others["vae"].parent / place))})
    with pytest.raises(ModelError, match=message) as caught:
        load(folder("sd15"), ["encoder"], origins=told)
    assert "\n" not in str(caught.value)


def test_a_text_encoder_of_another_family_is_what_its_config_says(folder, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen3", "architectures": ["Qwen3Model"]})
    )
    told = Origins(components={"text_encoder": str(tmp_path)})
    [entry] = [e for e in find(folder("sd15"), told).components if e.name == "text_encoder"]
    assert (entry.library, entry.class_name) == ("transformers", "Qwen3Model")
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "clip", "architectures": ["CLIPModel"]})
    )
    [entry] = [e for e in find(folder("sd15"), told).components if e.name == "text_encoder"]
    assert entry.class_name == "CLIPTextModel"  # which is taken out of a whole CLIP


def test_a_survey_tells_them(folder, others):
    told = Origins(components={"vae": str(others["tiny"])})
    found = survey(folder("sd15"), "auto", told)
    assert [each.source for each in found.info.replaced] == ["tiny"]
    kinds = {one.name: one.kind for one in found.components}
    assert kinds["vae"] == "AutoencoderTiny"
