"""LoRA adapters: the pixels of diffusers' own pipeline with the same ones, request by request."""

from pathlib import Path
from typing import Any

import pytest

from roles.refusals import Unsupported
from roles.split.denoising.batching import key_of
from roles.split.loading import load
from roles.split.program import Program
from roles.split.weights.adapters import AdapterGone
from tests.support.loras import build_lora, by_diffusers, with_loras
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, drive, same, through_roles
from transfer.messages import Lora, Speed

FAMILIES = ["flux", "sd15", "zimage", "qwenimage"]


def three(program: Any, name: str) -> list[Program]:
    """The denoiser is one of its own: what it has loaded is nobody else's."""
    return [program(name, "encoder"), program(name, "denoiser"), program(name, "decoder")]


@pytest.fixture(scope="module")
def lora(folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[tuple[str, int], Path] = {}

    def build(name: str, seed: int) -> Path:
        if (name, seed) not in made:
            place = tmp_path_factory.mktemp(f"lora-{name}-{seed}")
            made[name, seed] = build_lora(folder(name), place, seed)
        return made[name, seed]

    return build


@pytest.mark.parametrize("name", FAMILIES)
def test_the_pixels_are_those_of_diffusers(name: str, folder: Any, program: Any, lora: Any) -> None:
    programs, params = three(program, name), PARAMS[name]
    worn, path = Lora("a", 0.8), lora(name, 1)
    without = arrays(through_roles(*programs, call(params, 1)))
    told = programs[1].adapters.load("a", str(path))
    assert told.fresh
    assert told.lora.parts
    for each in (x.adapters for x in programs if x.adapters.components):
        each.load("a", str(path))  # an encoder's, of which it changes nothing
    with_it = arrays(through_roles(*programs, with_loras(params, worn)))
    assert same(with_it, by_diffusers(folder(name), params, 1, (path, worn)))
    assert not same(with_it, without)
    again = arrays(through_roles(*programs, call(params, 1)))  # it is loaded, and not put on
    assert same(again, without)
    assert programs[1].adapters.unload("a").found
    for each in (x.adapters for x in programs if x.adapters.components):
        each.unload("a")
    assert same(arrays(through_roles(*programs, call(params, 1))), without)
    assert not any("lora" in key for key in _denoiser(programs[1]).state_dict())


def test_several_at_once(folder: Any, program: Any, lora: Any) -> None:
    programs, params = three(program, "zimage"), PARAMS["zimage"]
    paths = {name: lora("zimage", seed) for name, seed in (("a", 1), ("b", 2))}
    for name, path in paths.items():
        programs[1].adapters.load(name, str(path))
    try:
        for worn in ([Lora("a", 0.5), Lora("b", 1.5)], [Lora("b", 1.0)], [Lora("a", 2.0)]):
            made = arrays(through_roles(*programs, with_loras(params, *worn)))
            pairs = [(paths[x.name], x) for x in worn]
            assert same(made, by_diffusers(folder("zimage"), params, 1, *pairs))
    finally:
        for name in paths:
            programs[1].adapters.unload(name)


def test_those_that_do_not_act_lie_beside_the_module(program: Any, lora: Any) -> None:
    """Whoever goes through its parts, as pipelines do to know its dtype, passes what acts alone."""
    programs, params = three(program, "zimage"), PARAMS["zimage"]
    adapters, module = programs[1].adapters, _denoiser(programs[1])

    def parts() -> int:
        return sum(1 for _ in module.modules())

    def made(*worn: Lora) -> Any:
        return arrays(through_roles(*programs, with_loras(params, *worn)))

    try:
        adapters.load("a", str(lora("zimage", 1)))
        alone, with_one = made(Lora("a")), parts()
        for seed, name in enumerate("bc", 2):
            adapters.load(name, str(lora("zimage", seed)))
        for name in "bca":
            last = made(Lora(name))
            assert parts() == with_one
        assert same(last, alone)
        made()
        assert parts() < with_one
        assert adapters.unload("b").found  # which lies aside
        adapters.gather()
        assert not any("lora_b" in name for name, _ in module.named_modules())
        two = parts()
        assert same(made(Lora("a")), alone)
        assert with_one < two
    finally:
        for name in "abc":
            adapters.unload(name)
    assert not any("lora" in key for key in module.state_dict())


def test_requests_with_different_adapters_never_share(folder: Any, program: Any, lora: Any) -> None:
    """Interleaved step by step, each has its own on."""
    encoder, denoiser, decoder = three(program, "zimage")
    params = PARAMS["zimage"]
    for name, seed in (("a", 1), ("b", 2)):
        denoiser.adapters.load(name, str(lora("zimage", seed)))
    kinds: list[list[Lora]] = [[Lora("a")], [Lora("a")], [Lora("b")], [], [Lora("a", 0.5)]]
    try:
        calls = [with_loras(params, *k, seed=i, request=f"r{i}") for i, k in enumerate(kinds)]
        running = [denoiser.denoise(each, encoder.encode(each)) for each in calls]
        for each in running:
            each.start()
        keys = [key_of(each.pending[0]) for each in running]
        assert keys[0] == keys[1]
        assert len(set(keys)) == len(keys) - 1
        while not all(each.done for each in running):
            for each in running:
                each.resume([pending.run() for pending in each.pending])
        for asked, kind, each in zip(calls, kinds, running, strict=True):
            worn = [(lora("zimage", 1 if x.name == "a" else 2), x) for x in kind]
            made = arrays(decoder.decode(asked, each.result()))
            seed = asked.inputs.seed
            assert same(made, by_diffusers(folder("zimage"), params, seed, *worn))
    finally:
        denoiser.adapters.unload("a")
        denoiser.adapters.unload("b")


def test_those_with_the_same_share_a_forward(program: Any, lora: Any) -> None:
    from roles.split.denoising.together import Together

    encoder, denoiser, _ = three(program, "zimage")
    params = PARAMS["zimage"]
    denoiser.adapters.load("a", str(lora("zimage", 1)))
    try:
        calls = [with_loras(params, Lora("a"), seed=i, request=f"r{i}") for i in range(2)]
        running = [denoiser.denoise(each, encoder.encode(each)) for each in calls]
        for each in running:
            each.start()
        pending = [each.pending[0] for each in running]
        shared = Together().run(pending, str(key_of(pending[0])))
        assert shared.size == 2  # the trial beside it has found no difference
        assert shared.most is None
        for each in running:
            each.cancel()
    finally:
        denoiser.adapters.unload("a")


def test_whole_pipelines_have_them_too(folder: Any, program: Any, lora: Any) -> None:
    whole, params, path = program("zimage", "monolithic"), PARAMS["zimage"], lora("zimage", 1)
    whole.adapters.load("a", str(path))
    try:
        made = arrays(drive(whole.generate(with_loras(params, Lora("a", 0.7)))))
        assert same(made, by_diffusers(folder("zimage"), params, 1, (path, Lora("a", 0.7))))
    finally:
        whole.adapters.unload("a")


def test_the_same_one_again_is_nothing_new_and_another_one_is_refused(
    program: Any, lora: Any
) -> None:
    adapters = program("zimage", "denoiser").adapters
    try:
        first = adapters.load("a", str(lora("zimage", 1)))
        again = adapters.load("a", str(lora("zimage", 1)))
        assert (first.fresh, again.fresh) == (True, False)
        with pytest.raises(ValueError, match="another adapter a is loaded"):
            adapters.load("a", str(lora("zimage", 2)))
        assert adapters.loaded.loras == [first.lora] == [again.lora]
    finally:
        adapters.unload("a")
    assert not adapters.unload("a").found


def test_f21_what_cannot_be_loaded_changes_nothing(program: Any, lora: Any, tmp_path: Path) -> None:
    denoiser = program("zimage", "denoiser")
    (tmp_path / "bad.safetensors").write_bytes(b"no such file")
    with pytest.raises(FileNotFoundError, match="there is no"):
        denoiser.adapters.load("a", str(tmp_path / "absent"))
    with pytest.raises(Exception, match=r".+"):
        denoiser.adapters.load("a", str(tmp_path / "bad.safetensors"))
    with pytest.raises(Exception, match=r".+"):  # of another family
        denoiser.adapters.load("a", str(lora("sd15", 1)))
    assert denoiser.adapters.loaded.loras == []
    assert not any("lora" in key for key in _denoiser(denoiser).state_dict())


def test_v6_who_does_not_support_it_says_why(folder: Any, program: Any) -> None:
    with pytest.raises(Unsupported, match="this role has nothing that adapters change"):
        program("zimage", "encoder").adapters.load("a", "/nowhere")
    with pytest.raises(Unsupported, match="this role has nothing that adapters change"):
        program("zimage", "encoder").adapters.unload("a")
    quick = load(folder("zimage"), ["denoiser"], speed=Speed(compile=True))
    with pytest.raises(Unsupported, match="--compile"):
        quick.adapters.load("a", "/nowhere")
    with pytest.raises(Unsupported, match="diffusers loads no LoRA into a DDIMPipeline"):
        program("ddim", "monolithic").adapters.load("a", "/nowhere")


def test_an_adapter_that_is_gone_is_an_error_of_the_request(program: Any) -> None:
    encoder, denoiser, _ = three(program, "zimage")
    asked = with_loras(PARAMS["zimage"], Lora("gone"))
    records = encoder.encode(asked)
    with pytest.raises(AdapterGone, match="no adapter 'gone' here any more; loaded: none"):
        denoiser.denoise(asked, records)


def _denoiser(program: Any) -> Any:
    (module,) = program.of_part("denoiser").values()
    return module
