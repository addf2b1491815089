"""Other weights without a restart: the pixels are those of a pipeline that began with them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from msgspec.structs import replace
from safetensors.torch import load_file, save_file

from roles.refusals import Unsupported
from roles.split.files.folder import weights_in
from roles.split.loading import load
from roles.split.program import ModelError
from roles.split.weights.exchange import Exchange, checksum
from tests.support.loras import build_lora
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, same, through_roles
from transfer.actions import PutWeights, UpdateWeights, Weights
from transfer.messages import Lora, Speed

NAME = "zimage"
ROLES = ["encoder", "denoiser", "decoder"]
ALL = ["text_encoder", "transformer", "vae"]


def scaled(folder: Path, to: Path, *components: str) -> Path:
    """The same pipeline with other weights in these components."""
    shutil.copytree(folder, to)
    for component in components:
        for file in weights_in(to / component):
            tensors = {key: value * 1.05 for key, value in load_file(file).items()}
            save_file(tensors, file, {"format": "pt"})
    return to


@pytest.fixture(scope="module")
def model(folder: Any) -> Path:
    return Path(folder(NAME))


@pytest.fixture(scope="module")
def other(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scaled(model, tmp_path_factory.mktemp("other") / "model", *ALL)


@pytest.fixture(scope="module")
def lora(model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_lora(model, tmp_path_factory.mktemp("lora"), 1))


@pytest.fixture(scope="module")
def whole(model: Path, lora: str) -> Any:
    program = load(model, ROLES)
    program.adapters.load("a", lora)  # type: ignore[union-attr]
    return program


@pytest.fixture(autouse=True)
def _as_it_was(whole: Any) -> Any:
    yield
    whole.exchange.put(PutWeights([Weights(name) for name in ALL]))


def pixels(program: Any, *loras: Lora) -> Any:
    asked = call(PARAMS[NAME], 1)
    asked = replace(asked, inputs=replace(asked.inputs, loras=list(loras)))
    return arrays(through_roles(program, program, program, asked))


def update(program: Any, path: Path, components: list[str] = ALL, **fields: Any) -> Any:
    return program.exchange.update(UpdateWeights(str(path), components=components, **fields))


def test_the_pixels_are_those_of_the_other_model(
    whole: Any, model: Path, other: Path, lora: str
) -> None:
    before = [pixels(whole), pixels(whole, Lora("a", 0.8))]
    objects = [id(x) for part in whole.sleeper.parts.values() for x in part.module.parameters()]
    told = update(whole, other)
    assert told.fresh
    assert {x.component: x.digest for x in told.weights} == {
        name: checksum(weights_in(other / name)) for name in ALL
    }
    fresh = load(other, ROLES)
    fresh.adapters.load("a", lora)  # type: ignore[union-attr]
    after = [pixels(whole), pixels(whole, Lora("a", 0.8))]
    assert not same(before[0], after[0])
    assert same(after[0], pixels(fresh))
    assert same(after[1], pixels(fresh, Lora("a", 0.8)))
    assert not update(whole, other).fresh
    assert objects == [
        id(x) for part in whole.sleeper.parts.values() for x in part.module.parameters()
    ]
    whole.exchange.put(PutWeights([Weights(name) for name in ALL]))
    assert same(pixels(whole), before[0])
    assert same(pixels(whole, Lora("a", 0.8)), before[1])


@pytest.mark.parametrize("level", [1, 2])
def test_they_are_those_that_wake_up(whole: Any, other: Path, level: int) -> None:
    update(whole, other)
    before = pixels(whole, Lora("a", 0.8))
    whole.sleeper.sleep(level)
    whole.sleeper.wake()
    assert same(pixels(whole, Lora("a", 0.8)), before)


def test_a_component_alone(whole: Any, model: Path, other: Path) -> None:
    before = pixels(whole)
    told = update(whole, other / "transformer")
    assert [x.component for x in told.weights] == ["transformer"]
    alone = pixels(whole)
    assert not same(alone, before)
    update(whole, other)
    assert not same(pixels(whole), alone)
    update(whole, other, ["vae", "unknown"])
    with pytest.raises(ValueError, match="say in `components` which"):
        update(whole, other / "transformer", ["text_encoder", "vae"])
    assert not update(whole, other / "transformer", ["unknown"]).weights


def test_the_checksum_is_that_of_coreutils(whole: Any, other: Path) -> None:
    command = "sha256sum *.safetensors | sha256sum"
    printed = subprocess.run(
        command, shell=True, cwd=other / "transformer", capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert update(whole, other, ["transformer"], checksum=printed).fresh


@pytest.mark.parametrize("checksum", ["0" * 64, {"transformer": "0" * 64}])
def test_other_files_are_refused(whole: Any, other: Path, checksum: Any) -> None:
    before = pixels(whole)
    components = ["transformer"] if isinstance(checksum, str) else ALL
    with pytest.raises(ValueError, match=f"not {'0' * 64}"):
        update(whole, other, components, checksum=checksum)
    assert same(pixels(whole), before)


def test_one_checksum_is_not_that_of_several(whole: Any, other: Path) -> None:
    with pytest.raises(ValueError, match="one checksum of 3 components"):
        update(whole, other, checksum="0" * 64)
    with pytest.raises(ValueError, match="no weights of unet"):
        update(whole, other, checksum={"unet": "0" * 64})


def test_another_class_s_weights_are_told_by_its_name(
    whole: Any, other: Path, tmp_path: Path
) -> None:
    """diffusers says something about a field of the configuration, if anything."""
    path = tmp_path / "transformer"
    shutil.copytree(other / "vae", path)
    kinds = "AutoencoderKL, not a ZImageTransformer2DModel"
    with pytest.raises(ValueError, match=f"transformer does not fit: {path} has a {kinds}"):
        update(whole, path, ["transformer"])


def test_weights_that_cannot_be_read_are_told_by_their_place(
    whole: Any, other: Path, tmp_path: Path
) -> None:
    path = tmp_path / "transformer"
    shutil.copytree(other / "transformer", path)
    (file,) = weights_in(path)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"^{path}: cannot load transformer"):
        update(whole, path, ["transformer"])


@pytest.mark.parametrize("damage", ["shape", "dtype", "missing", "config"])
def test_what_does_not_fit_changes_nothing(
    whole: Any, model: Path, other: Path, tmp_path: Path, damage: str
) -> None:
    """The text encoder and the VAE would fit."""
    path = tmp_path / "model"
    shutil.copytree(other, path)
    pipeline = DiffusionPipeline.from_pretrained(path)
    transformer = pipeline.transformer
    config = dict(transformer.config)
    if damage == "shape":
        transformer = type(transformer).from_config(config | {"cap_feat_dim": 24})
    elif damage == "dtype":
        transformer.register_to_config(axes_lens=[9, 9, 9])
    elif damage == "config":
        transformer.register_to_config(rope_theta=7.0)
    before = pixels(whole)
    if damage == "missing":
        (file,) = weights_in(path / "transformer")
        file.write_bytes(b"no weights")
    else:
        transformer.save_pretrained(path / "transformer")
    with pytest.raises(Exception, match="transformer"):
        update(whole, path)
    assert same(pixels(whole), before)


def test_what_fails_halfway_is_changed_back(
    whole: Any, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, plain, count = pixels(whole), torch.Tensor.copy_, 0

    def copy_(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 41:
            raise RuntimeError("no memory")
        return plain(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "copy_", copy_)
        with pytest.raises(RuntimeError, match="no memory"):
            update(whole, other)
    assert same(pixels(whole), before)


@pytest.mark.parametrize("speed", [Speed(compile=True), Speed(quantize="int8")])
def test_what_is_compiled_or_quantized_stays(whole: Any, other: Path, speed: Speed) -> None:
    exchange = Exchange(whole.sleeper, whole.exchange._loader, speed)
    with pytest.raises(Unsupported, match="started with --"):
        exchange.update(UpdateWeights(str(other), components=["transformer"]))
    assert exchange.update(UpdateWeights(str(other), components=["vae"])).fresh


def test_no_folder(whole: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        update(whole, tmp_path / "nothing")
