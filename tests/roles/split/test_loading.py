"""From a folder to programs: only the own weights, and one sentence for every failure."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import ControlNetModel, MultiControlNetModel

from roles.split.face import StandIn
from roles.split.files import folder as folders
from roles.split.files.components import Loader, part_of
from roles.split.files.fingerprint import fingerprint
from roles.split.loading import load
from roles.split.program import ModelError, Unsplittable
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, plain, same, through_roles

ROLES = ("encoder", "denoiser", "decoder")


def copied(folder, name, tmp_path):
    return shutil.copytree(folder(name), tmp_path / name)


def devices(part) -> set[str]:
    module = part.component if isinstance(part, StandIn) else part
    return {parameter.device.type for parameter in module.parameters()}


@pytest.mark.parametrize("name", ["sd3", "wan", "ltx", "sdxl"])
@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_its_own_weights_and_no_others(name, role, program):
    parts = program(name, role).pipeline.components.items()
    modules = {n: p for n, p in parts if isinstance(p, torch.nn.Module)}
    assert len(modules) >= 3
    for part, module in modules.items():
        assert devices(module) == ({"cpu"} if part_of(part) == role else {"meta"})


def test_a_role_does_without_the_others_files(folder, tmp_path):
    programs = []
    for role in ROLES:
        own = copied(folder, "sd3", tmp_path / role)
        for path in own.glob("*/*.safetensors"):
            if part_of(path.parent.name) != role:
                path.unlink()
        programs.append(load(own, [role], "float32"))
    samples = through_roles(*programs, call(PARAMS["sd3"]))
    assert same(arrays(samples), plain(folder("sd3"), PARAMS["sd3"], dtype="float32"))


def test_an_encoder_of_pictures_has_the_vae(folder, tmp_path):
    path = copied(folder, "sd15", tmp_path)
    index = json.loads((path / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionImg2ImgPipeline"
    (path / "model_index.json").write_text(json.dumps(index))
    parts = load(path, ["encoder"]).pipeline.components
    assert devices(parts["vae"]) == {"cpu"}
    assert devices(parts["unet"]) == {"meta"}


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["wan", "sdxl"])
def test_stand_ins_tell_the_dtypes_of_the_real_components(name, dtype, folder):
    real = load(folder(name), ["monolithic"], dtype).pipeline.components
    posed = load(folder(name), [], dtype).pipeline.components
    for part, module in real.items():
        if isinstance(module, torch.nn.Module):
            ours = {n: p.dtype for n, p in posed[part].named_parameters()}
            assert ours == {n: p.dtype for n, p in module.named_parameters()}
            assert posed[part].dtype == module.dtype


def test_a_pipeline_without_a_decoder_is_for_monolithic(folder):
    with pytest.raises(Unsplittable) as caught:
        load(folder("ddim"), ["denoiser"])
    message = str(caught.value)
    assert "DDIMPipeline cannot be split into roles: it has no decoder" in message
    assert "--disagg-role monolithic" in message


def test_a_whole_pipeline_says_whether_it_could_be_split(program):
    assert program("sd15", "monolithic").info.splittable
    info = program("ddim", "monolithic").info
    assert (info.splittable, info.why_not) == (False, "it has no decoder such as a VAE")


def test_no_weights_file(folder, tmp_path):
    path = copied(folder, "sd15", tmp_path)
    (path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load unet: there is no safetensors file"):
        load(path, ["denoiser"])


def test_a_torn_weights_file(folder, tmp_path):
    path = copied(folder, "sd15", tmp_path)
    weights = path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load unet"):
        load(path, ["denoiser"])


def test_a_missing_component(folder, tmp_path):
    path = copied(folder, "sd15", tmp_path)
    shutil.rmtree(path / "vae")
    with pytest.raises(ModelError, match="no folder vae"):
        load(path, ["encoder"])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "has no model_index.json"),
        ("{", "is no JSON"),
        ("[]", "names no pipeline"),
        ('{"_class_name": "NoSuchPipeline"}', "is a NoSuchPipeline, which diffusers"),
        ('{"_class_name": ["code", "Mine"]}', "its own pipeline code"),
        (
            '{"_class_name": "DDIMPipeline", "unet": ["os", "system"]}',
            "the component unet is a os.system",
        ),
    ],
)
def test_a_folder_that_is_no_model(index, message, tmp_path):
    if index is not None:
        (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ModelError, match=message):
        load(tmp_path, ["monolithic"])


def test_a_path_that_is_no_folder(tmp_path):
    with pytest.raises(ModelError, match="there is no folder"):
        load(tmp_path / "nowhere", ["encoder"])
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"neither a folder with a model_index.json nor a safete"):
        load(tmp_path / "file", ["encoder"])


def test_the_fingerprint_is_of_the_contents(folder, tmp_path):
    original = fingerprint(folders.find(folder("sd15")))
    path = copied(folder, "sd15", tmp_path)
    assert fingerprint(folders.find(path)) == original

    weights = path / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = fingerprint(folders.find(path))
    assert changed != original

    config = path / "vae" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values))  # only the formatting
    assert fingerprint(folders.find(path)) == changed
    config.write_text(json.dumps({**values, "scaling_factor": 0.5}))
    assert fingerprint(folders.find(path)) != changed


def test_the_fingerprint_needs_no_torch():
    code = "import roles.split.files.fingerprint, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_component_that_is_several_models_has_a_stand_in(tmp_path):
    one = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "norm_num_groups": 4}
    several = MultiControlNetModel([ControlNetModel(**one) for _ in range(2)])
    several.save_pretrained(str(tmp_path / "controlnet"))
    entry = folders.ComponentEntry("controlnet", "diffusers", "MultiControlNetModel")
    index = {
        "_class_name": "StableDiffusionControlNetPipeline",
        "controlnet": ["diffusers", entry.class_name],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    loader = Loader(folders.find(tmp_path), "float32", torch.device("cpu"))
    posed = loader.stand_in(entry)
    assert isinstance(posed, MultiControlNetModel)
    assert len(posed.nets) == 2
    assert devices(posed) == {"meta"}
    assert devices(loader.real(entry)) == {"cpu"}
