"""Checkpoints in a single file: the pixels of `Pipeline.from_single_file`, and in each role no more
of the file than its own."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, StableDiffusionPipeline
from safetensors.torch import save_file

from roles.origins import Origins
from roles.split.files.fingerprint import fingerprint
from roles.split.files.folder import find
from roles.split.loading import load, outline
from roles.split.program import ModelError
from roles.split.survey import survey
from tests.support.checkpoints import checkpoint
from tests.support.fake_hub import FakeHub
from tests.support.model_parts import vae
from tests.support.pipelines import PARAMS, build
from tests.support.splitting import arrays, call, drawn, plain, same, through_roles

ROLES = ("encoder", "denoiser", "decoder")


@pytest.fixture(scope="module")
def file(folder, tmp_path_factory):
    return checkpoint(folder("sd15"), tmp_path_factory.mktemp("files") / "sd-v1.safetensors")


@pytest.fixture(scope="module")
def config(folder, tmp_path_factory):
    """The pipeline's folder without any weights."""
    ignored = shutil.ignore_patterns("*.safetensors")
    path = tmp_path_factory.mktemp("configs") / "sd15"
    return shutil.copytree(folder("sd15"), path, ignore=ignored)


def served(file, config, dtype="float32", **components):
    told = Origins(config=str(config), components={n: str(p) for n, p in components.items()})
    return [load(file, [role], dtype, origins=told) for role in ROLES]


def made(roles, family="sd15"):
    return arrays(through_roles(*roles, call(PARAMS[family])))


def devices(role):
    parts = role.pipeline.components.items()
    modules = {n: p for n, p in parts if isinstance(p, torch.nn.Module)}
    return {
        name: {p.device.type for p in getattr(module, "component", module).parameters()}
        for name, module in modules.items()
    }


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_the_pixels_are_those_of_from_single_file(dtype, file, config, folder):
    roles = served(file, config, dtype)
    options = {} if dtype == "auto" else {"torch_dtype": getattr(torch, dtype)}
    pipeline = StableDiffusionPipeline.from_single_file(str(file), config=str(config), **options)
    pixels = made(roles)
    assert same(pixels, drawn(pipeline, PARAMS["sd15"]))
    if dtype == "float32":  # the file is the folder's weights in other words
        assert same(pixels, plain(folder("sd15"), PARAMS["sd15"], dtype="float32"))
    for name, real in pipeline.components.items():
        for role in roles:
            posed = role.pipeline.components[name]
            assert (posed is None) == (real is None)
            if isinstance(real, torch.nn.Module):
                ours = {n: p.dtype for n, p in posed.named_parameters()}
                assert ours == {n: p.dtype for n, p in real.named_parameters()}


def test_each_role_makes_its_own_components(file, config):
    found = dict(zip(ROLES, map(devices, served(file, config)), strict=True))
    own = {"text_encoder": "encoder", "unet": "denoiser", "vae": "decoder"}
    for role, parts in found.items():
        assert parts == {name: {"cpu"} if own[name] == role else {"meta"} for name in own}


def test_a_safety_checker_is_left_out(file, config, tmp_path):
    path = shutil.copytree(config, tmp_path / "checked")
    index = json.loads((path / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (path / "model_index.json").write_text(json.dumps(index))
    [program] = [load(file, ["decoder"], origins=Origins(config=str(path)))]
    assert program.pipeline.components["safety_checker"] is None


def test_what_the_file_does_not_hold_comes_from_the_configs_folder(folder, tmp_path):
    part = checkpoint(folder("sd15"), tmp_path / "unet.safetensors", "unet")
    path = build("sd15", tmp_path / "other", seed=7)
    plainly = StableDiffusionPipeline.from_pretrained(folder("sd15")).unet
    wanted = drawn(StableDiffusionPipeline.from_pretrained(path, unet=plainly), PARAMS["sd15"])
    assert same(made(served(part, path, "auto")), wanted)


def test_or_from_elsewhere(folder, config, tmp_path):
    part = checkpoint(folder("sd15"), tmp_path / "part.safetensors", "unet", "text_encoder")
    with pytest.raises(ModelError, match=r"no safetensors file, nor is it in the file: name one"):
        load(part, ["decoder"], origins=Origins(config=str(config)))
    torch.manual_seed(7)
    vae(scaling_factor=0.5).save_pretrained(tmp_path / "vae")
    plainly = AutoencoderKL.from_pretrained(tmp_path / "vae")
    pipeline = StableDiffusionPipeline.from_single_file(
        str(part), config=str(config), vae=plainly, torch_dtype=torch.float32
    )
    roles = served(part, config, vae=tmp_path / "vae")
    assert same(made(roles), drawn(pipeline, PARAMS["sd15"]))


def test_a_component_from_a_file(file, folder, config, tmp_path):
    """Of a folder's pipeline: the VAE of another checkpoint, and a transformer."""
    other = checkpoint(build("sd15", tmp_path / "other", seed=7), tmp_path / "vae.safetensors")
    told = Origins(components={"vae": str(other)})
    roles = [load(folder("sd15"), [role], "float32", origins=told) for role in ROLES]
    plainly = AutoencoderKL.from_pretrained(tmp_path / "other", subfolder="vae")
    wanted = StableDiffusionPipeline.from_pretrained(folder("sd15"), vae=plainly)
    assert same(made(roles), drawn(wanted, PARAMS["sd15"]))
    assert roles[0].info.replaced[0].source == "vae.safetensors"
    told = Origins(components={"unet": str(checkpoint(folder("sd15"), tmp_path / "v", "vae"))})
    with pytest.raises(ModelError, match=r"neither a folder nor a safetensors file"):
        load(folder("sd15"), ["decoder"], origins=told)
    part = checkpoint(folder("sd15"), tmp_path / "part.safetensors", "vae")
    told = Origins(components={"unet": str(part)})
    with pytest.raises(ModelError, match=r"diffusers finds no UNet2DConditionModel in part.safe"):
        load(folder("sd15"), ["decoder"], origins=told)


def test_a_transformer_in_diffusers_own_words(folder, tmp_path):
    """Files that nothing has to be converted of."""
    other = build("flux", tmp_path / "other", seed=7) / "transformer"
    weights = other / "diffusion_pytorch_model.safetensors"
    told = Origins(components={"transformer": str(weights)})
    roles = [load(folder("flux"), [role], "float32", origins=told) for role in ROLES]
    plainly = FluxTransformer2DModel.from_pretrained(other)
    assert same(
        made(roles, "flux"),
        plain(folder("flux"), PARAMS["flux"], dtype="float32", transformer=plainly),
    )


def test_the_fingerprint_is_of_file_and_configs(file, config, folder, tmp_path):
    def of(file, config=config, **components):
        return fingerprint(find(file, Origins(config=str(config), components=components)))

    moved = shutil.copy(file, tmp_path / "renamed.safetensors")
    assert of(moved) == of(file)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(content)
    copy = shutil.copytree(config, tmp_path / "config")
    scheduler = copy / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.012", "0.013"))
    other = of(file, vae=str(folder("sd15")))
    found = {of(file), of(tmp_path / "changed.safetensors"), of(file, copy), other}
    assert len(found) == 4


def test_the_pipeline_is_the_one_that_diffusers_takes_it_for(file, config, monkeypatch, tmp_path):
    id = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    with FakeHub() as hub, hub.asked_by(monkeypatch, tmp_path / "cache"):
        with pytest.raises(ModelError, match=f"--model-config {id}: there is no folder {id}"):
            find(file)
        hub.push(id, config)
        info = load(file, ["decoder"]).info
        assert not any(name.endswith(".safetensors") for name in hub.given)
    assert (info.name, info.pipeline) == ("sd-v1", "StableDiffusionPipeline")
    assert info.revision is None  # which is that of the configs


ID, PARTS = "someone/checkpoints", {"unet": "denoiser", "vae": "decoder"}


@pytest.fixture
def pushed(folder, monkeypatch, tmp_path):
    """A repository with files, one without the text encoder, and one of a VAE."""
    with FakeHub() as hub, hub.asked_by(monkeypatch, tmp_path / "cache"):
        inner = tmp_path / "pushed" / "v1"
        inner.mkdir(parents=True)
        checkpoint(folder("sd15"), inner / "part.safetensors", *PARTS)
        checkpoint(build("sd15", tmp_path / "b", seed=7), inner.parent / "vae.safetensors", "vae")
        hub.push(ID, inner.parent, "v1")
        yield hub


def fetched(hub):
    return [name for name in hub.given if name.endswith(".safetensors")]


def test_a_file_of_a_hub_is_fetched_by_those_who_read_it(pushed, folder, file, config):
    """The others look at its header."""
    commit = pushed.push(ID, pushed.folder(ID, pushed.commit(ID, "v1")))
    model = f"{ID}@v1:v1/part.safetensors"
    told = Origins(config=str(folder("sd15")))
    encoder = load(model, ["encoder"], "float32", origins=told)
    assert not fetched(pushed)
    assert pushed.peeked > 0
    info = encoder.info
    assert outline(find(model, told)).info.fingerprint == info.fingerprint
    assert not fetched(pushed)
    roles = [encoder, *(load(model, [role], "float32", origins=told) for role in ROLES[1:])]
    assert fetched(pushed) == ["v1/part.safetensors"]
    assert same(made(roles), plain(folder("sd15"), PARAMS["sd15"], dtype="float32"))
    assert info.revision == pushed.commit(ID, "v1") != commit
    assert info.name == f"{ID}:v1/part"
    of = {role.info.fingerprint for role in roles}
    of |= {fingerprint(find(f"{ID}@{info.revision}:v1/part.safetensors", told))}
    assert len(of) == 1
    others = {fingerprint(find(each, told)) for each in (f"{ID}:v1/part.safetensors", file)}
    assert len(of | others) == 3


def test_a_component_from_a_file_of_a_hub(pushed, folder, tmp_path):
    told = Origins(components={"vae": f"{ID}@v1:vae.safetensors"})
    roles = [load(folder("sd15"), [role], "float32", origins=told) for role in ROLES]
    plainly = AutoencoderKL.from_pretrained(tmp_path / "b", subfolder="vae")
    wanted = StableDiffusionPipeline.from_pretrained(folder("sd15"), vae=plainly)
    assert same(made(roles), drawn(wanted, PARAMS["sd15"]))
    assert fetched(pushed) == ["vae.safetensors"]
    commit = pushed.commit(ID, "v1")
    assert roles[0].info.replaced[0].source == f"{ID}@{commit}:vae.safetensors"
    assert len({role.info.fingerprint for role in roles}) == 1


def test_a_file_that_a_hub_does_not_have(pushed, config):
    message = rf"{ID} has no file part.safetensors at \w+; it has v1/part.safetensors, vae.safe"
    with pytest.raises(ModelError, match=message):
        find(f"{ID}@v1:part.safetensors", Origins(config=str(config)))


def test_it_is_read_again_after_a_deep_sleep(file, config):
    roles = served(file, config)
    before = made(roles)
    for role in roles:
        role.sleeper.sleep(2)
        role.sleeper.wake()
    assert same(made(roles), before)


def test_a_survey_of_a_file(file, config):
    found = survey(file, "auto", Origins(config=str(config)))
    assert {one.name for one in found.components} == {"text_encoder", "unet", "vae"}
    assert all(one.nbytes for one in found.components)
    assert [each.nbytes is not None for each in found.crossings] == [True, True]


def test_what_is_no_checkpoint(file, config, folder, tmp_path):
    told = Origins(config=str(config))
    (tmp_path / "model.ckpt").write_bytes(b"a pickle, say")
    with pytest.raises(ModelError, match=r"neither a folder with a model_index.json nor a safeten"):
        load(tmp_path / "model.ckpt", ["encoder"], origins=told)
    (tmp_path / "torn.safetensors").write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"is no safetensors file, or an unfinished download"):
        load(tmp_path / "torn.safetensors", ["encoder"], origins=told)
    save_file({"lora.down": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match=r"finds nothing in it of the StableDiffusionPipeline"):
        load(tmp_path / "lora.safetensors", ["encoder"], origins=told)
    vae_alone = checkpoint(folder("sd15"), tmp_path / "vae.safetensors", "vae")
    with pytest.raises(ModelError, match=r"finds no unet in it, only vae; give such a file as --c"):
        load(vae_alone, ["encoder"], origins=told)
    with pytest.raises(ModelError, match=r"--model-config is for a model in a single file"):
        load(folder("sd15"), ["encoder"], origins=told)
    with pytest.raises(ModelError, match=r"that it is of, --model-config .*: there is no folder"):
        load(file, ["encoder"], origins=Origins(config="no/where/at/all"))
