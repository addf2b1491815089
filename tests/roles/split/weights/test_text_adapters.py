"""LoRA adapters that change text encoders, too: the pixels of diffusers' own pipeline, in three
roles, in one process and in whole pipelines, and no request ever with those of another."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.utils import convert_state_dict_to_kohya
from msgspec.structs import replace
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from roles.refusals import Unsupported
from roles.split.encoding.encodings import Encodings
from roles.split.loading import load
from roles.split.program import Program
from roles.split.weights.adapted import adapters_of
from roles.split.weights.adapters import LOCAL, AdapterGone, Adapters
from tests.conformance import modular
from tests.conformance.families import modular_only
from tests.support.loras import (
    NAME,
    OF_TEXT,
    TARGETS,
    build_lora,
    build_lora_of,
    by_diffusers,
    lora_of,
    with_loras,
)
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, drive, same, through_roles
from transfer.actions import UpdateWeights
from transfer.messages import Lora

PARTS = {
    "sd15": {"unet": TARGETS, "text_encoder": OF_TEXT},
    "sdxl": {"unet": TARGETS, "text_encoder": OF_TEXT, "text_encoder_2": OF_TEXT},
    "flux": {"transformer": TARGETS, "text_encoder": OF_TEXT},
    "ltx2": {"transformer": TARGETS, "connectors": TARGETS},
}
DENOISERS = ["unet", "transformer"]
MB = 1 << 20


@pytest.fixture(scope="module")
def lora(folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[tuple[Any, ...], Path] = {}

    def build(name: str, seed: int, *parts: str) -> Path:
        """`parts`: those that it changes; none: all that adapters of that pipeline may."""
        if (name, seed, *parts) not in made:
            place = tmp_path_factory.mktemp(f"lora-{name}-{seed}")
            chosen = {part: PARTS[name][part] for part in parts or PARTS[name]}
            made[name, seed, *parts] = build_lora_of(folder(name), place, seed, chosen)
        return made[name, seed, *parts]

    return build


@contextlib.contextmanager
def loaded(programs: list[Program], **paths: Path) -> Iterator[list[list[str]]]:
    """The adapters are in all of these; gives what of each program the last one changes."""
    adapters = [each.adapters for each in programs if each.adapters is not None]
    try:
        for name, path in paths.items():
            told = [each.load(name, str(path)).lora.parts for each in adapters]
        yield told
    finally:
        for each in adapters:
            for name in paths:
                each.unload(name)


def modules(program: Any) -> list[Any]:
    return [part.module for part in program.sleeper.parts.values()]


@pytest.mark.parametrize("name", PARTS)
def test_the_pixels_are_those_of_diffusers(name: str, folder: Any, program: Any, lora: Any) -> None:
    encoder, denoiser, decoder = (program(name, x) for x in ("encoder", "denoiser", "decoder"))
    params, worn, path = PARAMS[name], Lora("a", 0.8), lora(name, 1)
    without = arrays(through_roles(encoder, denoiser, decoder, call(params, 1)))
    with loaded([encoder, denoiser], a=path) as parts:
        of_denoiser = [part for part in PARTS[name] if part in DENOISERS]
        assert parts == [sorted(PARTS[name].keys() - of_denoiser), of_denoiser]
        made = arrays(through_roles(encoder, denoiser, decoder, with_loras(params, worn)))
        assert same(made, by_diffusers(folder(name), params, 1, (path, worn)))
        assert not same(made, without)
        plain = arrays(through_roles(encoder, denoiser, decoder, call(params, 1)))
        assert same(plain, without)
        mixed = denoiser.denoise(with_loras(params, worn), encoder.encode(call(params, 1)))
        assert not same(arrays(decoder.decode(call(params, 1), drive(mixed))), made)  # it matters
    for each in modules(encoder):
        assert not any("lora" in key or "base_layer" in key for key in each.state_dict())
    assert same(arrays(through_roles(encoder, denoiser, decoder, call(params, 1))), without)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_whole_pipelines_have_them_too(name: str, folder: Any, program: Any, lora: Any) -> None:
    whole, params, worn = program(name, "monolithic"), PARAMS[name], Lora("a", 0.7)
    with loaded([whole], a=lora(name, 1)) as parts:
        assert parts == [sorted(PARTS[name])]
        made = arrays(drive(whole.generate(with_loras(params, worn))))
        assert same(made, by_diffusers(folder(name), params, 1, (lora(name, 1), worn)))
        without = arrays(drive(whole.generate(call(params, 1))))
    assert same(without, arrays(drive(whole.generate(call(params, 1)))))


def _as_others_save_it(path: Path, place: Path) -> Path:
    """As kohya's scripts do: other names, and an alpha."""
    named = {k.replace(".encoder.", ".text_model.encoder."): v for k, v in _read(path)}
    named = {k.replace("text_model.text_model", "text_model"): v for k, v in named.items()}
    theirs = convert_state_dict_to_kohya(named)
    alphas = {key: torch.tensor(3.0) for key in theirs if key.endswith(".alpha")}
    place.mkdir()
    save_file({k: v.contiguous() for k, v in (theirs | alphas).items()}, place / NAME)
    return place


def _read(path: Path) -> Iterable[tuple[str, torch.Tensor]]:
    return load_file(path / NAME).items()


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_files_of_other_trainers(
    name: str, folder: Any, program: Any, lora: Any, tmp_path: Path
) -> None:
    roles, params = [program(name, x) for x in ("encoder", "denoiser", "decoder")], PARAMS[name]
    path, worn = _as_others_save_it(lora(name, 1), tmp_path / "kohya"), Lora("a", 0.8)
    with loaded(roles[:2], a=path) as parts:
        assert sorted(part for each in parts for part in each) == sorted(PARTS[name])
        made = arrays(through_roles(*roles, with_loras(params, worn)))
        assert same(made, by_diffusers(folder(name), params, 1, (path, worn)))
        assert not same(made, by_diffusers(folder(name), params, 1, (lora(name, 1), worn)))


def test_modular_pipelines_have_them_outside_of_the_door(tmp_path: Path) -> None:
    """Its denoiser has a model besides, which is called before the loop and changed, too."""
    made, asked = modular_only.anima(), dict(modular_only.NEGATED)
    modular.save(made, tmp_path / "anima")
    parts = {"transformer": TARGETS, "text_conditioner": ["q_proj", "v_proj"]}
    path = lora_of(made, tmp_path / "lora", 1, parts)

    def wear(whole: Any) -> None:
        whole.load_lora_weights(path, adapter_name="a", **LOCAL)
        whole.set_adapters(["a"], [0.7])

    plain = [modular.plain(tmp_path / "anima", asked, "float32", 1, x) for x in (wear, _nothing)]
    roles = [load(tmp_path / "anima", [role]) for role in ("encoder", "denoiser", "decoder")]
    whole = load(tmp_path / "anima", ["monolithic"])
    with loaded([roles[1], whole], a=path) as found:
        assert found == [sorted(parts)] * 2
        for loras, (pictures,) in zip(([Lora("a", 0.7)], []), plain, strict=True):
            expected = [np.asarray(picture) for picture in pictures]
            request = with_loras(asked, *loras)
            assert same(arrays(through_roles(*roles, request)), expected)
            assert same(arrays(drive(whole.generate(request))), expected)


def _nothing(whole: Any) -> None:
    """It is the plain one."""


def test_several_at_once_and_each_its_own_parts(folder: Any, lora: Any) -> None:
    """All roles in one process; one adapter changes all, one the denoiser, one the texts."""
    whole, params = load(folder("sdxl"), ["encoder", "denoiser", "decoder"]), PARAMS["sdxl"]
    paths = {
        "all": lora("sdxl", 1),
        "net": lora("sdxl", 2, "unet"),
        "text": lora("sdxl", 3, "text_encoder", "text_encoder_2"),
    }
    kinds = [
        [Lora("all", 0.5), Lora("text", 1.5)],
        [Lora("text", 0.5), Lora("net", 0.8), Lora("all", -0.3)],
        [Lora("net")],
        [Lora("text", 2.0)],
    ]
    with loaded([whole], **paths):
        for worn in kinds:
            made = arrays(through_roles(whole, whole, whole, with_loras(params, *worn)))
            pairs = [(paths[x.name], x) for x in worn]
            assert same(made, by_diffusers(folder("sdxl"), params, 1, *pairs))


def test_whole_pipelines_that_take_turns_have_their_own(
    folder: Any, program: Any, lora: Any
) -> None:
    """Each encodes before its first forward, and stands at the door with the others after that."""
    whole, params = program("sd15", "monolithic"), PARAMS["sd15"]
    kinds: list[list[Lora]] = [[Lora("a")], [], [Lora("b", 0.5)], [Lora("a", 0.5)]]
    paths = {"a": lora("sd15", 1), "b": lora("sd15", 2, "text_encoder")}
    with loaded([whole], **paths):
        calls = [with_loras(params, *k, seed=i, request=f"r{i}") for i, k in enumerate(kinds)]
        running = [whole.generate(each) for each in calls]
        for each in running:
            each.start()
        while not all(each.done for each in running):
            for each in running:
                each.resume([pending.run() for pending in each.pending])
        for seed, (worn, each) in enumerate(zip(kinds, running, strict=True)):
            pairs = [(paths[x.name], x) for x in worn]
            assert same(arrays(each.result()), by_diffusers(folder("sd15"), params, seed, *pairs))


def test_what_was_encoded_with_others_is_not_found_again(
    folder: Any, program: Any, lora: Any
) -> None:
    encoder, denoiser, decoder = (program("sd15", x) for x in ("encoder", "denoiser", "decoder"))
    params = PARAMS["sd15"]
    paths = {"a": lora("sd15", 1), "b": lora("sd15", 2), "net": lora("sd15", 3, "unet")}
    encoder.encodings = Encodings(64 * MB, "model")
    known: dict[tuple[Any, ...], Any] = {}  # what diffusers makes of each

    def misses(*worn: Lora) -> int:
        before = encoder.encodings.report.misses
        made = arrays(through_roles(encoder, denoiser, decoder, with_loras(params, *worn)))
        pairs = tuple((paths[x.name], x) for x in worn)
        if pairs not in known:
            known[pairs] = by_diffusers(folder("sd15"), params, 1, *pairs)
        assert same(made, known[pairs])
        return encoder.encodings.report.misses - before

    try:
        with loaded([encoder, denoiser], **paths):
            for worn in ([], [Lora("a")], [Lora("a", 0.5)], [Lora("b")], [Lora("a"), Lora("b")]):
                assert misses(*worn) > 0
                assert misses(*worn) == 0
            assert misses(Lora("net")) == 0  # it changes nothing of the texts
            assert misses(Lora("net"), Lora("a", 0.5)) == 0
        paths["a"] = lora("sd15", 4)
        with loaded([encoder, denoiser], a=paths["a"]):
            assert misses(Lora("a")) > 0  # another file of that name
    finally:
        encoder.encodings = None


def test_a_role_without_any_of_its_parts_has_loaded_it_all_the_same(
    program: Any, lora: Any
) -> None:
    """So every instance has the same adapters, and a request that has them on is taken."""
    encoder, denoiser = program("sd15", "encoder"), program("sd15", "denoiser")
    with loaded([encoder, denoiser], net=lora("sd15", 1, "unet")) as parts:
        assert parts == [[], ["unet"]]
        encoder.encode(with_loras(PARAMS["sd15"], Lora("net")))
    with loaded([encoder, denoiser], text=lora("sd15", 1, "text_encoder")) as parts:
        assert parts == [["text_encoder"], []]
        assert encoder.adapters.loaded.loras[0].parts == ["text_encoder"]
    assert program("sd15", "encoder").adapters.components == ["text_encoder"]
    assert program("sd15", "denoiser").adapters.components == ["unet"]
    assert program("sd15", "decoder").adapters.components == []


def test_what_denoises_but_takes_no_adapter_asks_for_none() -> None:
    """As the ControlNet that some modular pipelines read a picture with, in the encoder: nobody
    loads an adapter there, and requests that have one on go through all the same."""
    pipeline = SimpleNamespace(_lora_loadable_modules=["transformer"], load_lora_weights=None)
    beside = Adapters(pipeline, {"controlnet": torch.nn.Linear(1, 1)}, None, {})
    assert beside.components == []
    beside.worn([Lora("a")]).on_all()
    with pytest.raises(Unsupported, match="this role has nothing that adapters change"):
        beside.load("a", "a.safetensors")
    taker = Adapters(pipeline, {"transformer": torch.nn.Linear(1, 1)}, None, {})
    with pytest.raises(AdapterGone, match="there is no adapter 'a'"):
        taker.worn([Lora("a")])


def test_who_shares_parts_with_what_is_changed_has_the_same_on(
    folder: Any, lora: Any, tmp_path: Path
) -> None:
    """As Z-Image's ControlNets, which are called before the transformer that they share blocks
    with: its adapters act in them, those of this request and not of the one before."""
    whole = load(folder("sd15"), ["denoiser"])
    unet = whole.pipeline.components["unet"]
    beside = torch.nn.Sequential(torch.nn.Linear(2, 2), unet.mid_block)
    both = {"controlnet": beside, "unet": unet, "apart": torch.nn.Linear(2, 2)}
    adapters = Adapters(whole.pipeline, both, None, {})
    adapters.load("a", str(lora("sd15", 1, "unet")))
    layers = [x for x in beside.modules() if isinstance(x, BaseTunerLayer)]
    assert layers
    for loras, name in (
        ([Lora("a", 0.5)], "controlnet"),
        ([], "controlnet"),
        ([Lora("a")], "unet"),
    ):
        adapters.worn(loras).on(name)
        adapters.worn([]).on("apart")
        assert all(layer.disable_adapters == (not loras) for layer in layers)
        assert all(layer.scaling["lora_a"] == x.scale for layer in layers for x in loras)


def test_f21_what_fits_nothing_changes_nothing(
    folder: Any, program: Any, lora: Any, tmp_path: Path
) -> None:
    encoder, denoiser = program("sd15", "encoder"), program("sd15", "denoiser")
    other = build_lora(folder("zimage"), tmp_path / "other", 1)  # its transformer's
    for each in (encoder, denoiser):
        with pytest.raises(ValueError, match="nothing for unet, text_encoder"):
            each.adapters.load("a", str(other))
    for number, broken in enumerate((_of_another_shape, _of_other_layers)):
        path = tmp_path / f"{number}"
        path.mkdir()
        save_file(broken(dict(_read(lora("sd15", 1)))), path / NAME)
        with pytest.raises(Exception, match=r".+"):
            encoder.adapters.load("a", str(path))
        assert encoder.adapters.loaded.loras == []
        for module in modules(encoder):
            assert not adapters_of(module)
            assert not any("lora" in key or "base_layer" in key for key in module.state_dict())


def _of_another_shape(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: torch.cat([v, v]) if "lora_B" in k else v for k, v in weights.items()}


def _of_other_layers(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace("layers.", "levels."): value for key, value in weights.items()}


def test_an_adapter_that_is_gone_is_an_error_of_the_request(program: Any) -> None:
    asked = with_loras(PARAMS["sd15"], Lora("gone"))
    with pytest.raises(AdapterGone, match="no adapter 'gone' here any more"):
        program("sd15", "encoder").encode(asked)


@pytest.mark.parametrize("level", [1, 2])
def test_they_come_back_from_sleep(level: int, folder: Any, lora: Any) -> None:
    encoder, asked = load(folder("sd15"), ["encoder"]), with_loras(PARAMS["sd15"], Lora("a"))
    with loaded([encoder], a=lora("sd15", 1)):
        before = _texts(encoder.encode(asked))
        encoder.sleeper.sleep(level)
        encoder.sleeper.wake()
        assert all(map(torch.equal, _texts(encoder.encode(asked)), before))


def test_they_stay_on_other_weights(folder: Any, lora: Any, tmp_path: Path) -> None:
    asked = with_loras(PARAMS["sd15"], Lora("a"))
    plain = replace(asked, inputs=replace(asked.inputs, loras=[]))
    first, other = (load(folder("sd15"), ["encoder"]) for _ in range(2))
    (tmp_path / "text_encoder").mkdir()
    for file in Path(folder("sd15"), "text_encoder").iterdir():
        if file.suffix == ".safetensors":
            scaled = {key: value * 1.05 for key, value in load_file(file).items()}
            save_file(scaled, tmp_path / "text_encoder" / file.name, {"format": "pt"})
        else:
            (tmp_path / "text_encoder" / file.name).write_bytes(file.read_bytes())
    change = UpdateWeights(str(tmp_path / "text_encoder"), components=["text_encoder"])
    other.exchange.update(change)
    with loaded([first, other], a=lora("sd15", 1)):
        before = _texts(first.encode(asked))
        first.exchange.update(change)
        for request in (asked, plain):
            found = _texts(first.encode(request))
            assert all(map(torch.equal, found, _texts(other.encode(request))))
            assert not all(map(torch.equal, found, before))


def _texts(payload: Any) -> list[torch.Tensor]:
    found = [value for _, value, _ in payload["kept"]]
    return [x for value in found for x in value if isinstance(x, torch.Tensor)]
