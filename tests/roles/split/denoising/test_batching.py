"""Forwards that several requests share: for each family, the same latents within rounding."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmarks.overhead import MODEL
from roles.split.denoising.batching import Unmergeable, key_of, merge, split
from roles.split.denoising.slicing import samples
from roles.split.loading import load
from roles.split.program import TransformerCall
from roles.split.quirks import one_by_one
from tests.support.batching import Asked, Denoisers, apart
from tests.support.pipelines import PARAMS
from tests.support.splitting import call, drive
from transfer.messages import Inputs

# Of the largest value, in float32. Measured: 1.4e-7 (flux) to 2.5e-6 (sd15) over three to five
# steps of tiny random models; the demo model is in between.
TOLERANCE = 1e-4

PROMPTS = ("a red circle", "two green stars and a boat", "blue", "a cat on a mat")
STEPS = (4, 6, 3, 5)
TOGETHER = [
    "demo",
    "flux",
    "flux2_klein",
    "lcm",
    "ltx",
    "ltx2",
    "pixart",
    "qwenimage",
    "sd15",
    "sd15_ancestral",
    "sd3",
    "sdxl",
    "stable_audio",
    "wan",
    "wan22",
    "zimage",
]


@pytest.fixture(scope="module")
def demo():
    return load(MODEL, ["encoder", "denoiser", "decoder"], "float32")


@pytest.fixture
def of(program, demo):
    """The program with all roles of that name, and its usual parameters."""

    def get(name):
        if name == "demo":
            return demo, {"prompt": "a red circle"}
        return program(name, "encoder", "denoiser", "decoder"), PARAMS[name]

    return get


def ask(params, index, exact=False, **more):
    own = {"prompt": PROMPTS[index], "num_inference_steps": STEPS[index]}
    params = {**params, **own, **more}
    asked = call(params, seed=40 + index, request=f"r{index}")
    inputs = Inputs(asked.inputs.params, asked.inputs.seed, exact=exact)
    return type(asked)(asked.request, inputs)


def denoise(program, calls):
    """Each call's result alone (bit for bit the plain pipeline's: test_parity), the same calls
    denoised together, and who shared forwards."""
    payloads = [program.encode(each) for each in calls]
    pairs = list(zip(calls, payloads, strict=True))
    alone = [drive(program.denoise(each, copy.deepcopy(payload))) for each, payload in pairs]
    asked = [Asked(each, program.denoise(each, payload)) for each, payload in pairs]
    room = Denoisers(asked)
    room.run()
    return alone, [each.denoising.result() for each in asked], room.groups


@pytest.mark.parametrize("name", TOGETHER)
def test_requests_that_share_forwards_get_their_own_latents(name, of):
    shared, params = of(name)
    calls = [ask(params, index) for index in range(4)]
    alone, together, groups = denoise(shared, calls)
    assert max(map(len, groups)) >= 3
    for index in range(4):
        assert apart(together[index], alone[index]) <= TOLERANCE
        assert apart(alone[index], alone[index - 1]) > 100 * TOLERANCE  # the test would see it


@pytest.mark.parametrize("name", ["demo", "flux2_klein", "qwenimage", "wan"])
def test_branches_share_with_each_other_and_with_those_of_others(name, of):
    shared, params = of(name)
    for count, exact, most in ((1, True, 1), (1, False, 2), (4, False, 8)):
        calls = [ask(params, index, exact, num_inference_steps=4) for index in range(count)]
        room = Denoisers([Asked(it, shared.denoise(it, shared.encode(it))) for it in calls])
        room.run()
        assert max(room.calls) == most


@pytest.mark.parametrize("name", ["demo", "sdxl", "qwenimage", "wan"])
def test_an_exact_request_beside_others_is_exact(name, of):
    shared, params = of(name)
    calls = [ask(params, index, exact=index == 1) for index in range(4)]
    alone, together, groups = denoise(shared, calls)
    assert {group for group in groups if "r1" in group} == {("r1",)}
    assert max(map(len, groups)) == 3
    assert apart(together[1], alone[1]) == 0.0


def test_a_model_that_is_declared_to_run_alone_does(of):
    shared, params = of("animatediff")
    _, _, groups = denoise(shared, [ask(params, index) for index in range(2)])
    assert {len(group) for group in groups} == {1}


@pytest.mark.parametrize("name", ["flux", "flux2_klein", "qwenimage", "zimage", "sdxl"])
def test_pictures_of_another_shape_do_not_join(name, of):
    """As many tokens, but elsewhere: the positions are not the same."""
    shared, params = of(name)
    calls = [ask(params, 0, height=32, width=64), ask(params, 1, height=64, width=32)]
    alone, together, groups = denoise(shared, calls)
    assert {len(group) for group in groups} == {1}
    assert max(apart(*each) for each in zip(together, alone, strict=True)) <= TOLERANCE


def test_seed_and_generator_do_not_matter_for_compatibility(of):
    program, params = of("demo")
    keys = []
    for seed in (1, 2):
        asked = call({**params, "num_inference_steps": 2}, seed=seed)
        denoising = program.denoise(asked, program.encode(asked))
        denoising.start()
        keys += [key_of(call) for call in denoising.pending]
        denoising.cancel()
    assert keys[0] is not None
    assert len(set(keys)) == 1


def test_another_number_of_guidance_branches_does_not_join(of):
    shared, params = of("sdxl")
    calls = [ask(params, 0), ask(params, 1, guidance_scale=1.0)]
    _, _, groups = denoise(shared, calls)
    assert {len(group) for group in groups} == {1}


# ---------------------------------------------------------------- arguments


class Model(torch.nn.Module):
    def forward(self, hidden_states, timestep=None, **kwargs):
        return (hidden_states,)


class Expanding(Model):
    """Takes a timestep for each sample, or one for all."""

    def forward(self, hidden_states, timestep=None, **kwargs):
        timestep = timestep.expand(hidden_states.shape[0])
        return (hidden_states * timestep[:, None],)


MODEL_ALONE, UNET = Model(), Expanding()
LATENTS = torch.arange(6.0).reshape(2, 3)


def forward(module=MODEL_ALONE, *args, **kwargs):
    return TransformerCall(module, "transformer", args or (LATENTS,), kwargs)


def test_arguments_are_concatenated_by_what_they_are():
    ids, rows = torch.ones(5, 3), torch.ones(2, 4)
    calls = [
        forward(
            UNET,
            LATENTS + number,
            torch.tensor(7 + number),
            embeds=rows * number,
            img_ids=ids.clone(),
            coords=torch.ones(2, 3, 2),
            scale=1.5,
            control_scale=torch.ones(3),
            nothing=None,
            more={"time_ids": rows + number, "name": "x"},
            captions=[torch.ones(3 + number, 8), torch.ones(1, 8)],
            img_shapes=[[(1, 2, 2)], [(1, 2, 2)]],
            rotary=(torch.ones(9, 2), torch.zeros(9, 2)),
        )
        for number in range(3)
    ]
    assert len({key_of(each) for each in calls}) == 1
    merged, counts = merge(calls)
    assert counts == [2, 2, 2]
    assert torch.equal(merged.args[0], torch.cat([LATENTS, LATENTS + 1, LATENTS + 2]))
    assert merged.args[1].tolist() == [7, 7, 8, 8, 9, 9]
    given = merged.kwargs
    assert given["embeds"].tolist() == [[n] * 4 for n in (0, 0, 1, 1, 2, 2)]
    assert given["img_ids"].shape == (5, 3)
    assert given["coords"].shape == (6, 3, 2)
    assert given["control_scale"].shape == (3,)
    assert (given["scale"], given["nothing"], given["more"]["name"]) == (1.5, None, "x")
    assert given["more"]["time_ids"].shape == (6, 4)
    assert [len(each) for each in given["captions"]] == [3, 1, 4, 1, 5, 1]
    assert given["img_shapes"] == [[(1, 2, 2)]] * 6
    assert given["rotary"][0].shape == (9, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"embeds": torch.ones(2, 5)},
        {"embeds": torch.ones(2, 4, dtype=torch.float64)},
        {"embeds": torch.ones(2, 4), "scale": 2.0},
        {"embeds": None},
        {"embeds": torch.ones(2, 4), "img_ids": torch.zeros(5, 3)},
        {"embeds": torch.ones(2, 4), "coords": torch.zeros(2, 3, 2)},
        {"embeds": torch.ones(2, 4), "img_shapes": [[(1, 4, 1)], [(1, 4, 1)]]},
        {"embeds": torch.ones(2, 4), "more": {"x": 1}},
    ],
)
def test_calls_that_differ_in_anything_shared_have_different_keys(other):
    usual = {
        "embeds": torch.ones(2, 4),
        "img_ids": torch.ones(5, 3),
        "coords": torch.ones(2, 3, 2),
        "img_shapes": [[(1, 2, 2)], [(1, 2, 2)]],
        "more": {},
        "scale": 1.0,
    }
    one, another = key_of(forward(**usual)), key_of(forward(**{**usual, **other}))
    assert one is not None
    assert another is not None
    assert one != another


def test_as_many_residuals_as_samples_are_no_samples():
    """A ControlNet gives tensors that count the samples each, as many as it has blocks."""
    residuals = [torch.ones(2, 5, 3), torch.ones(2, 5, 3) * 2]
    calls = [forward(block_samples=[each * n for each in residuals]) for n in (1, 10)]
    merged, _ = merge(calls)
    first, second = merged.kwargs["block_samples"]
    assert first[:, 0, 0].tolist() == [1, 1, 10, 10]
    assert second[:, 0, 0].tolist() == [2, 2, 20, 20]


def test_contents_that_are_shared_count_but_not_for_the_costs():
    one = key_of(forward(img_ids=torch.ones(5, 3)))
    other = key_of(forward(img_ids=torch.zeros(5, 3)))
    assert one.partition(":")[0] == other.partition(":")[0]
    assert one != other


def test_what_is_written_into_a_shared_tensor_changes_the_key():
    ids = torch.ones(5, 3)
    before = key_of(forward(img_ids=ids))
    assert key_of(forward(img_ids=ids)) == before
    ids[0, 0] = 2.0
    assert key_of(forward(img_ids=ids)) != before


@pytest.mark.parametrize(
    "strange",
    [
        {"embeds": torch.ones(8, 4)},  # a row for each frame, perhaps
        {"embeds": object()},
        {"captions": [torch.ones(3, 8), torch.ones(3, 9)]},
        {"captions": [[torch.ones(3)], [torch.ones(3)]]},
        {"embeds": torch.ones(2, 4).to_sparse()},
        {"hidden_states": None},
    ],
)
def test_what_is_not_understood_runs_alone(strange):
    given = {"hidden_states": LATENTS, **strange}
    assert key_of(TransformerCall(MODEL_ALONE, "transformer", (), given)) is None


def test_calls_of_a_pipeline_that_looks_at_the_whole_batch_run_alone():
    class Perturbed(type("PAGMixin", (), {})):
        pass

    reason = one_by_one(Perturbed)
    assert "whole batch" in reason
    assert one_by_one(Model) is None
    assert key_of(replace(forward(), alone=reason)) is None
    assert samples(replace(forward(), alone=reason)) == 1  # what ranks do not divide
    with pytest.raises(Unmergeable, match="whole batch"):
        merge([replace(forward(), alone=reason)] * 2)


def test_no_module_and_a_step_cache_run_alone():
    assert key_of(TransformerCall(lambda x: x, "transformer", (LATENTS,), {})) is None
    cached = Model()
    cached.is_cache_enabled = True
    assert key_of(forward(cached)) is None


def test_a_timestep_for_all_is_shared_where_the_model_takes_no_more():
    keys = {key_of(forward(MODEL_ALONE, LATENTS, torch.tensor(t))) for t in (1.0, 1.0, 2.0)}
    assert len(keys) == 2
    numbers = [forward(UNET, LATENTS, 3), forward(UNET, LATENTS, 4)]
    assert merge(numbers)[0].args[1].tolist() == [3, 3, 4, 4]


def test_modules_are_never_mixed():
    with pytest.raises(Unmergeable, match="different modules"):
        merge([forward(MODEL_ALONE), forward(Model())])


def test_results_come_apart_as_they_are():
    ten = torch.arange(10.0).reshape(5, 2)
    parts = split(({"sample": ten, "loss": None}, [1, 2, 3, 4, 5]), [2, 3])
    assert [part[0]["sample"].tolist() for part in parts] == [ten[:2].tolist(), ten[2:].tolist()]
    assert [part[1] for part in parts] == [[1, 2], [3, 4, 5]]
    with pytest.raises(Unmergeable, match="Tensor"):
        split((torch.ones(4, 2),), [2, 3])
    with pytest.raises(Unmergeable, match="SimpleNamespace"):
        split(SimpleNamespace(), [1, 1])


def test_an_output_class_comes_apart_as_itself(program):
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    one, other = split(Transformer2DModelOutput(sample=LATENTS), [1, 1])
    assert type(one) is type(other) is Transformer2DModelOutput
    assert torch.equal(other.sample, LATENTS[1:])
