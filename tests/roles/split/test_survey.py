"""What is told of a model without its weights is what its roles do with them."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from launch.weights import weights_bytes
from roles.split import survey as survey_module
from roles.split.files.folder import find
from roles.split.imagined import Imagined
from roles.split.loading import outline
from roles.split.program import Call, ModelError
from roles.split.survey import survey
from tests.conformance import modular
from tests.support.image_pipelines import flux
from tests.support.pipelines import PARAMS
from tests.support.splitting import drive
from transfer.messages import Inputs
from transfer.payload import pack


@pytest.fixture
def bare(folder, tmp_path):
    """A model's folder without any weights."""

    def get(name):
        ignored = shutil.ignore_patterns("*.safetensors")
        return shutil.copytree(folder(name), tmp_path / name, ignore=ignored)

    return get


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(survey_module, "default_size", lambda info: (64, 64))


def test_what_crosses_is_what_really_crosses(bare, program):
    name = "sd15_img2img"
    found = survey(bare(name))
    to_denoiser, to_decoder = found.crossings
    media = survey_module.pictures(program(name, "encoder"))
    request = Call("r", Inputs(found.request, 0), media)
    records = program(name, "encoder").encode(request)
    result = drive(program(name, "denoiser").denoise(request, records))
    assert (to_denoiser.nbytes, to_decoder.nbytes) == (pack(records).nbytes, pack(result).nbytes)
    assert to_decoder.names == ["vae.decode"]
    assert to_denoiser.names == ["encode_prompt", "vae.encode", "image"]


def test_weights_are_counted_by_role(bare, folder):
    counted = {one.name: (one.role, one.nbytes) for one in survey(bare("zimage")).components}
    assert {name: role for name, (role, _) in counted.items()} == {
        "text_encoder": "encoder",
        "transformer": "denoiser",
        "vae": "decoder",
    }
    assert sum(nbytes for _, nbytes in counted.values()) == weights_bytes(folder("zimage"), "auto")


def test_what_cannot_be_split_says_why(bare):
    found = survey(bare("ddim"))
    assert found.info.why_not == "it has no decoder such as a VAE"
    assert found.crossings == []
    assert found.lora == "diffusers loads no LoRA into a DDIMPipeline"


def test_what_cannot_be_told_says_why(bare, monkeypatch):
    def fails(*args):
        raise ValueError("scripted")

    monkeypatch.setattr(survey_module, "_denoised", fails)
    to_denoiser, to_decoder = survey(bare("zimage")).crossings
    assert to_denoiser.nbytes > 0
    assert to_decoder.nbytes is None
    assert to_decoder.why_not == "it cannot be told without weights: scripted"


def test_guidance_that_keeps_a_norm_can_be_told_too(bare):
    """It divides what two forwards gave, which are zeros here."""
    params = PARAMS["qwenimage"]  # with a negative prompt
    program = outline(find(bare("qwenimage")))
    _, to_decoder = survey_module.crossings(program, Call("r", Inputs(params, 0)))
    assert (to_decoder.why_not, to_decoder.names) == (None, ["vae.decode"])


class _Seeing(torch.nn.Module):
    def forward(self, input_ids, pixel_values=None, image_grid_thw=None):
        if pixel_values is not None:
            assert sum(image_grid_thw.tolist()) == len(pixel_values)
        return torch.nn.functional.one_hot(input_ids, 8).float()


def test_what_looks_into_the_size_of_a_picture_says_as_much_without_it():
    says = Imagined(_Seeing(), torch.device("cpu"))
    ids, pixels = torch.zeros(1, 6, dtype=torch.int64), torch.zeros(4, 3)
    said = says(input_ids=ids, pixel_values=pixels, image_grid_thw=torch.tensor([2, 2]))
    assert said.shape == (1, 6, 8)
    with pytest.raises(AttributeError, match="tolist"):
        says(ids, pixels)


class _Deciding(torch.nn.Module):
    config = SimpleNamespace(in_channels=9, out_channels=4)

    def forward(self, hidden_states):
        return (hidden_states[:, :4] if hidden_states.sum() > 0 else hidden_states[:, 4:8],)


def test_what_decides_by_numbers_gives_as_many_channels_as_its_config_says():
    says = Imagined(_Deciding(), torch.device("cpu"))
    assert says(hidden_states=torch.zeros(1, 9, 2, 3))[0].shape == (1, 4, 2, 3)
    with pytest.raises(RuntimeError):
        says(hidden_states=torch.zeros(1, 5, 2, 3))


def test_a_folder_that_is_none_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match=r"has no model_index\.json"):
        survey(tmp_path)


def test_a_modular_pipeline_is_told_of_too(tmp_path):
    modular.save(modular.of_classic("FluxModularPipeline", flux)(), tmp_path / "model")
    found = survey(tmp_path / "model")
    to_denoiser, to_decoder = found.crossings
    assert found.info.pipeline == "FluxModularPipeline"
    assert {one.name: one.role for one in found.components}["transformer"] == "denoiser"
    assert "prompt_embeds" in to_denoiser.names, to_denoiser.why_not
    assert "latents" in to_decoder.names, to_decoder.why_not
    assert to_denoiser.nbytes > 0
    assert to_decoder.nbytes > 0
