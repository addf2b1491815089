"""Components that were quantized before: the pixels of the plain pipeline with the same component.
Each needs the library that it was quantized with; without, there is one clear error."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel, GGUFQuantizationConfig

from launch.weights import weights_bytes
from roles.origins import Origins
from roles.split.files import quantized
from roles.split.files.fingerprint import fingerprint
from roles.split.files.folder import find
from roles.split.loading import load, outline
from roles.split.program import ModelError, Program
from tests.support.loras import build_lora, with_loras
from tests.support.pipelines import PARAMS, build
from tests.support.splitting import arrays, call, drawn, plain, same, through_roles
from transfer.messages import Lora, Speed

ROLES = ("encoder", "denoiser", "decoder")


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one than the model's own."""
    return build("flux", tmp_path_factory.mktemp("other"), seed=7) / "transformer"


@pytest.fixture(scope="module")
def gguf_file(transformer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with its wide enough matrices in eight bits."""
    gguf = pytest.importorskip("gguf")
    file = tmp_path_factory.mktemp("files") / "tiny-Q8_0.gguf"
    writer = gguf.GGUFWriter(file, "flux")
    q8, block = gguf.GGMLQuantizationType.Q8_0, gguf.GGML_QUANT_SIZES[8][0]
    for name, tensor in FluxTransformer2DModel.from_pretrained(transformer).state_dict().items():
        if tensor.ndim == 2 and tensor.shape[1] % block == 0:
            data = gguf.quants.quantize(tensor.numpy(), q8)
            writer.add_tensor(name, data, raw_dtype=q8)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def served(folder: Path, place: Path, dtype: Any = "float32") -> list[Program]:
    told = Origins(components={"transformer": str(place)})
    return [load(folder, [role], dtype, origins=told) for role in ROLES]


def made(roles: list[Program]) -> list[Any]:
    return arrays(through_roles(*roles, call(PARAMS["flux"])))


def _by_diffusers(file: Path, model: Path, dtype: torch.dtype) -> Any:
    return FluxTransformer2DModel.from_single_file(
        str(file),
        config=str(model / "transformer"),
        quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
        dtype=dtype,
    )


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_gguf_file_gives_the_pixels_of_from_single_file(
    dtype: Any, folder: Callable[[str], Path], gguf_file: Path
) -> None:
    compute = torch.float32 if dtype == "auto" else torch.bfloat16
    plainly = _by_diffusers(gguf_file, folder("flux"), compute)
    known = plain(folder("flux"), PARAMS["flux"], dtype=dtype, transformer=plainly)
    roles = served(folder("flux"), gguf_file, dtype)
    assert same(made(roles), known)
    assert not same(known, plain(folder("flux"), PARAMS["flux"], dtype=dtype))
    [part] = roles[1].of_part("denoiser").values()  # type: ignore[attr-defined]
    kept = {type(each).__name__ for each in part.parameters()}
    assert kept == {"GGUFParameter", "Parameter"}
    assert roles[0].info.replaced[0].source == "tiny-Q8_0.gguf"
    if dtype == "auto":
        _wakes_the_same(roles, known)


def _wakes_the_same(roles: list[Program], known: list[Any]) -> None:
    sleeper = roles[1].sleeper
    assert sleeper is not None
    for level in (1, 2):
        sleeper.sleep(level)
        sleeper.wake()
        assert same(made(roles), known)


def test_adapters_of_a_gguf_file(
    folder: Callable[[str], Path], gguf_file: Path, tmp_path: Path
) -> None:
    path, worn = build_lora(folder("flux"), tmp_path / "lora", 1), Lora("a", 0.5)
    plainly = _by_diffusers(gguf_file, folder("flux"), torch.float32)
    pipeline = FluxPipeline.from_pretrained(folder("flux"), transformer=plainly)
    pipeline.load_lora_weights(path, adapter_name="a")
    pipeline.set_adapters(["a"], [0.5])
    roles = served(folder("flux"), gguf_file, "auto")
    before = made(roles)
    takers = [each.adapters for each in roles[:2] if each.adapters is not None]
    for each in takers:
        each.load("a", str(path))
    painted = arrays(through_roles(*roles, with_loras(PARAMS["flux"], worn, seed=0)))
    assert same(painted, drawn(pipeline, PARAMS["flux"]))
    assert not same(painted, before)
    for each in takers:
        each.unload("a")
    assert same(made(roles), before)


def test_only_the_denoiser_reads_a_gguf_file(
    folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others need neither what is in it nor the library."""
    (tmp_path / "x.gguf").write_bytes(b"GGUF, say")
    told = Origins(components={"transformer": str(tmp_path / "x.gguf")})
    monkeypatch.setattr(quantized, "_is_there", lambda module: module != "gguf")
    for role in ("encoder", "decoder"):
        load(folder("flux"), [role], origins=told)
    assert outline(find(folder("flux"), told)).info.splittable
    with pytest.raises(ModelError, match=r"gguf is not installed \(pip install 'triptych\[gguf\]'"):
        load(folder("flux"), ["denoiser"], origins=told)
    with pytest.raises(ModelError, match="the weights of transformer are quantized already"):
        load(folder("flux"), ["denoiser"], origins=told, speed=Speed(quantize="int8"))
    before = fingerprint(find(folder("flux"), told))
    (tmp_path / "x.gguf").write_bytes(b"GGUF, too")
    assert fingerprint(find(folder("flux"), told)) != before
    own = {"transformer": str(folder("flux") / "transformer")}
    without = weights_bytes(str(folder("flux")), "auto", own)
    assert without is not None
    with_file = weights_bytes(str(folder("flux")), "auto", told.components)
    assert with_file is not None
    assert with_file < without


def test_what_no_gguf_file_is_read_for(folder: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF, say")
    told = Origins(components={"text_encoder": str(tmp_path / "x.gguf")})
    with pytest.raises(ModelError, match="diffusers reads no CLIPTextModel from a GGUF file"):
        load(folder("flux"), ["encoder"], origins=told)
    with pytest.raises(ModelError, match=r"neither a folder with a model_index.json nor a safet"):
        load(tmp_path / "x.gguf", ["encoder"])


def _torchao() -> Any:
    from diffusers import TorchAoConfig
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _quanto() -> Any:
    from diffusers import QuantoConfig

    return QuantoConfig(weights_dtype="int8")


# and not bitsandbytes, which diffusers runs on GPUs only
LIBRARIES = {
    "torchao": ("torchao", _torchao),
    "quanto": ("optimum", _quanto),
}


@pytest.mark.parametrize("method", LIBRARIES)
@pytest.mark.filterwarnings("ignore")  # of libraries which are no part of the tests otherwise
def test_a_folder_that_was_saved_quantized(
    method: str, folder: Callable[[str], Path], transformer: Path, tmp_path: Path
) -> None:
    module, config = LIBRARIES[method]
    pytest.importorskip(module)
    made_small = FluxTransformer2DModel.from_pretrained(
        transformer, quantization_config=config(), dtype=torch.float32
    )
    made_small.save_pretrained(tmp_path / "small")
    plainly = FluxTransformer2DModel.from_pretrained(tmp_path / "small", dtype=torch.float32)
    known = plain(folder("flux"), PARAMS["flux"], transformer=plainly)
    roles = served(folder("flux"), tmp_path / "small", "auto")
    assert same(made(roles), known)
    _wakes_the_same(roles, known)
    whole = FluxTransformer2DModel.from_pretrained(transformer)
    assert not same(known, plain(folder("flux"), PARAMS["flux"], transformer=whole))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("torchao", r"torchao is not installed \(pip install 'triptych\[quantize\]'\)"),
        ("quanto", r"optimum.quanto is not installed \(pip install optimum-quanto\)"),
        ("bitsandbytes_4bit", r"bitsandbytes is not installed \(pip install bitsandbytes\)"),
    ],
)
def test_a_library_that_is_not_there_is_named_and_where_to_get_it(
    method: str,
    message: str,
    folder: Callable[[str], Path],
    transformer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = shutil.copytree(transformer, tmp_path / "small")
    config = json.loads((copy / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method}
    (copy / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=message):
        load(folder("flux"), ["denoiser"], origins=Origins(components={"transformer": str(copy)}))
