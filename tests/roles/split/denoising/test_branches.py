"""Branches that wait together: the same numbers, whatever the pipeline does in between."""

import weakref

import pytest
import torch

from roles.split.denoising import branches
from roles.split.denoising.branches import Outlines
from roles.split.denoising.door import Coroutine
from roles.split.program import Cancelled
from roles.split.randomness import GlobalRandomness


class Model(torch.nn.Module):
    """Twice the latents and the prompt. `narrow`: the result has a row less."""

    def __init__(self):
        super().__init__()
        self.dtype = torch.float32
        self.factor, self.narrow = 2, False
        self.runs = []

    def forward(self, hidden_states, prompt=0.0, **kwargs):
        self.runs.append(float(prompt))
        made = self.factor * hidden_states + prompt
        return (made[:, 1:] if self.narrow else made,)

    def amplify(self, factor):
        self.factor = factor


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def outlines():
    return Outlines()


def latents():
    return torch.arange(6.0).reshape(1, 6)


def stand(program, outlines):
    randomness = GlobalRandomness(0, torch.device("cpu"))
    return Coroutine("r", 0, program, randomness, outlines=outlines)


def run(model, outlines, pipeline):
    """Runs `pipeline(transformer)`: what it gave, and how many calls waited each time."""

    def program(coroutine):
        coroutine.watch(None, lambda call: None)
        return pipeline(coroutine.face("transformer", model))

    coroutine = stand(program, outlines)
    coroutine.start()
    waited = []
    while not coroutine.done:
        waited.append(len(coroutine.pending))
        coroutine.resume([call.run() for call in coroutine.pending])
    return coroutine.result(), waited


def pair(transformer, between=lambda transformer, one, given: None):
    """Two branches, and what a pipeline does between them."""
    given = latents()
    (one,) = transformer(given, prompt=torch.tensor([1.0]))
    between(transformer, one, given)
    (other,) = transformer(given, prompt=torch.tensor([2.0]))
    return one, other


def guided(transformer):
    one, other = pair(transformer)
    return other + 3 * (one - other)


@pytest.fixture
def learned(model, outlines):
    """A model of which it is known what its forwards give."""
    run(model, outlines, pair)
    model.runs.clear()
    return model, outlines


def test_both_wait_at_the_first_use_of_one(model, outlines):
    first, waited = run(model, outlines, guided)
    assert waited == [1, 1]  # what a forward gives was not known
    second, waited = run(model, outlines, guided)
    assert waited == [2]
    assert torch.equal(first, second)
    assert type(second) is torch.Tensor


def test_results_that_were_waited_for_are_plain_tensors(learned):
    def pipeline(transformer):
        one, other = pair(transformer)
        kinds = type(one) is torch.Tensor
        one.add_(0)
        return kinds, one, other

    (plain, one, other), waited = run(*learned, pipeline)
    assert (plain, waited) == (False, [2])
    assert type(one) is type(other) is torch.Tensor
    assert one.untyped_storage().nbytes() > 0
    assert torch.equal(one + 1, other)


def test_facts_need_no_value(learned):
    seen = []

    def look(_transformer, one, _given):
        seen.append((one.shape, one.dtype, one.device, one.ndim, len(one), one.size(1)))
        assert isinstance(one, torch.Tensor)
        assert torch.is_tensor(one)
        assert one.numel() == 6

    _, waited = run(*learned, lambda it: guided_with(it, look))
    assert waited == [2]
    assert seen == [(torch.Size([1, 6]), torch.float32, torch.device("cpu"), 2, 1, 6)]


def guided_with(transformer, between):
    one, other = pair(transformer, between)
    return other + 3 * (one - other)


def test_slices_and_casts_wait_too(learned):
    def pipeline(transformer):
        one = transformer(latents(), prompt=torch.tensor([1.0]))[0][:, 1:].float()
        halves = transformer(latents(), prompt=torch.tensor([2.0]))[0].to(torch.float64).chunk(2, 1)
        shapes = one.shape, *(half.shape for half in halves)
        return shapes, one + 0, halves[1]

    (shapes, one, half), waited = run(*learned, pipeline)
    assert waited == [2]
    assert shapes == ((1, 5), (1, 3), (1, 3))
    assert one.tolist() == [[3, 5, 7, 9, 11]]
    assert (half.tolist(), half.dtype) == ([[8, 10, 12]], torch.float64)


@pytest.mark.parametrize(
    "use",
    [
        lambda one: one + 1,
        lambda one: 1 - one,
        lambda one: torch.cat([one, one]),
        lambda one: one.to("cpu", torch.float64),
        lambda one: one[torch.tensor([0])],
        lambda one: one.numpy(),
        lambda one: one.add_(1),
        lambda one: one.__setitem__((0, 0), 7.0),
        lambda one: [each for each in one],
        lambda one: bool(one.sum() > 0),
        lambda one: repr(one),
    ],
)
def test_whatever_needs_the_value_gets_it(use, learned):
    model, outlines = learned
    values = []

    def between(_transformer, one, _given):
        values.append(use(one))

    _, waited = run(model, outlines, lambda it: pair(it, between))
    plain = 2 * latents() + 1
    expected = use(plain)
    assert waited[0] == 1
    assert repr(values[0]) == repr(expected)


# ---------------------------------------------------------------- what happens in between


def test_what_is_written_into_an_argument_does_not_reach_an_earlier_call(learned):
    def pipeline(transformer):
        given = latents()
        (one,) = transformer(given, prompt=torch.tensor([1.0]))
        given.mul_(100)
        (other,) = transformer(given, prompt=torch.tensor([2.0]))
        return one + 0, other

    (one, other), waited = run(*learned, pipeline)
    assert waited == [2]
    assert torch.equal(one, 2 * latents() + 1)
    assert torch.equal(other, 200 * latents() + 2)


def test_a_list_that_grows_does_not_reach_an_earlier_call(model, outlines):
    seen = []

    class Listening(Model):
        def forward(self, hidden_states, captions):
            seen.append([float(each.sum()) for each in captions])
            return (hidden_states,)

    def pipeline(transformer):
        captions = [torch.ones(2, 3)]
        (one,) = transformer(latents(), captions)
        captions[0] = torch.zeros(2, 3)
        (other,) = transformer(latents(), captions)
        return one + other

    listening = Listening()
    run(listening, outlines, pipeline)
    _, waited = run(listening, outlines, pipeline)
    assert waited == [2]
    assert seen == [[6.0], [0.0]] * 2


def test_a_call_that_nothing_was_written_into_runs_with_the_very_objects(learned):
    model, outlines = learned
    given, seen = latents(), []

    def program(coroutine):
        coroutine.watch(None, lambda call: None)
        transformer = coroutine.face("transformer", model)
        one, other = transformer(given)[0], transformer(given)[0]
        return one + other

    run(model, outlines, lambda it: it(latents()))
    coroutine = stand(program, outlines)
    coroutine.start()
    seen = [call.args[0] is given for call in coroutine.pending]
    coroutine.cancel()
    assert seen == [True, True]


def test_a_change_of_the_transformer_comes_after_the_calls_before_it(learned):
    (one, other), waited = run(
        *learned, lambda it: pair(it, lambda transformer, *_: transformer.amplify(5))
    )
    assert waited == [1, 1]
    assert torch.equal(one, 2 * latents() + 1)
    assert torch.equal(other, 5 * latents() + 2)


def test_asking_what_the_transformer_is_computes_nothing(learned):
    _, waited = run(*learned, lambda it: guided_with(it, lambda transformer, *_: transformer.dtype))
    assert waited == [2]


def test_a_result_among_the_arguments_is_computed_first(learned):
    def pipeline(transformer):
        (one,) = transformer(latents(), prompt=torch.tensor([1.0]))
        (other,) = transformer(one, prompt=torch.tensor([2.0]))
        return other + 0

    made, waited = run(*learned, pipeline)
    assert waited == [1, 1]
    assert torch.equal(made, 2 * (2 * latents() + 1) + 2)


def test_forms_that_differ_wait_one_after_the_other(learned):
    model, outlines = learned

    def pipeline(transformer):
        (one,) = transformer(latents(), prompt=torch.tensor([1.0]))
        (other,) = transformer(latents().repeat(1, 2), prompt=torch.tensor([2.0]))
        (third,) = transformer(latents(), prompt=torch.tensor([3.0]))
        return one + third + other[:, :6]

    run(model, outlines, lambda it: it(latents().repeat(1, 2), prompt=torch.tensor([2.0])))
    model.runs.clear()
    made, waited = run(model, outlines, pipeline)
    assert waited == [2, 1]
    assert model.runs == [1.0, 3.0, 2.0]
    assert torch.equal(made, 6 * latents() + 6)


@pytest.mark.parametrize("why", ["a dict", "autocast"])
def test_what_cannot_be_kept_is_computed_at_once(why, model, outlines):
    more = {"extra": {"scale": 1.0}} if why == "a dict" else {}

    def pipeline(transformer):
        with torch.autocast("cpu", enabled=why == "autocast"):
            (one,) = transformer(latents(), **more)
            early = type(one)
            (other,) = transformer(latents(), **more)
        return early, one + other

    for _ in range(2):
        (early, _), waited = run(model, outlines, pipeline)
        assert (early, waited) == (torch.Tensor, [1, 1])


def test_an_exact_request_is_never_kept_waiting(model):
    for _ in range(2):
        assert run(model, None, guided)[1] == [1, 1]


# ---------------------------------------------------------------- ends


def test_what_nobody_needs_is_computed_all_the_same(learned):
    model, outlines = learned
    made, waited = run(model, outlines, lambda it: pair(it) and "end")
    assert (made, waited, model.runs) == ("end", [2], [1.0, 2.0])


def test_what_waits_when_a_pipeline_fails_is_dropped(learned):
    model, outlines = learned

    def pipeline(transformer):
        pair(transformer)
        raise ValueError("as expected")

    with pytest.raises(ValueError, match="as expected"):
        run(model, outlines, pipeline)
    assert model.runs == []


def test_a_step_ends_with_everything_computed(learned):
    model, outlines = learned

    def program(coroutine):
        coroutine.watch(None, lambda call: None)
        one, other = pair(coroutine.face("transformer", model))
        given_back = coroutine.count(None, 0, None, {"latents": torch.ones(1)})
        return [type(each) for each in (one, other)], coroutine.step, given_back

    coroutine = stand(program, outlines)
    coroutine.start()
    assert (len(coroutine.pending), coroutine.step) == (2, 0)
    while not coroutine.done:
        coroutine.resume([call.run() for call in coroutine.pending])
    assert coroutine.result() == ([torch.Tensor] * 2, 1, {})  # nothing that it did not change


def test_cancelled_while_branches_wait(learned):
    model, outlines = learned
    ends = []

    def program(coroutine):
        coroutine.watch(None, lambda call: None)
        one, other = pair(coroutine.face("transformer", model))
        try:
            return one + other
        finally:
            with pytest.raises(RuntimeError, match="request has ended"):
                other.sum()
            ends.append("end")

    coroutine = stand(program, outlines)
    coroutine.start()
    coroutine.cancel()
    assert (coroutine.pending, model.runs, ends) == ((), [], ["end"])
    with pytest.raises(Cancelled):
        coroutine.result()


def test_results_are_the_pipelines_alone(learned):
    model, outlines = learned
    kept = []

    def program(coroutine):
        coroutine.watch(None, lambda call: None)
        transformer = coroutine.face("transformer", model)
        kept.extend(pair(transformer))
        transformer.amplify(2)

    coroutine = stand(program, outlines)
    coroutine.start()
    with pytest.raises(RuntimeError, match="request has ended"):
        kept[0] + 1
    coroutine.cancel()


def test_a_model_that_gives_other_shapes_is_found_out(learned):
    model, outlines = learned
    model.narrow = True
    with pytest.raises(RuntimeError, match="can be tried again"):
        run(model, outlines, guided)
    made, waited = run(model, outlines, guided)
    assert (made.shape, waited) == ((1, 5), [1, 1])


def test_no_more_than_so_many_wait(learned, monkeypatch):
    model, outlines = learned
    monkeypatch.setattr(branches, "MAX_WAITING", 3)

    def pipeline(transformer):
        made = [transformer(latents(), prompt=torch.tensor([1.0]))[0] for _ in range(7)]
        return sum(made)

    made, waited = run(model, outlines, pipeline)
    assert waited == [3, 3, 1]
    assert torch.equal(made, 7 * (2 * latents() + 1))


def test_a_pipeline_that_needs_each_result_at_once_is_believed_and_tried_again(learned):
    model, outlines = learned
    kinds = []

    def pipeline(transformer):
        for _ in range(30):
            (one,) = transformer(latents(), prompt=torch.tensor([1.0]))
            kinds.append(type(one) is torch.Tensor)
            one.sum()
        return one

    run(model, outlines, pipeline)
    assert kinds[: branches.PATIENCE] == [False] * branches.PATIENCE
    assert kinds.count(False) == branches.PATIENCE + 3


# ---------------------------------------------------------------- past the usual ways


def test_a_result_with_a_weak_reference_hands_everything_on(learned):
    def pipeline(transformer):
        one, other = pair(transformer)
        kept = weakref.ref(one)
        return one - other, one * 2, kept() is one, one.shape

    (difference, double, same, shape), _ = run(*learned, pipeline)
    assert difference.tolist() == [[-1.0] * 6]
    assert torch.equal(double, 4 * latents() + 2)
    assert (same, shape) == (True, (1, 6))


def test_code_that_passes_by_torch_functions_gets_numbers_too(learned):
    model, outlines = learned

    def pipeline(transformer):
        one, other = pair(transformer)
        with torch._C.DisableTorchFunctionSubclass():
            return torch.sub(other, one)

    made, waited = run(model, outlines, pipeline)
    assert (made.tolist(), waited, model.runs) == ([[1.0] * 6], [], [1.0, 2.0])
