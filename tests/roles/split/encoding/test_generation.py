"""Requests that write, a token at a time: interleaved, together, cancelled, and each the same text
as that of the plain `generate` with its seed."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from roles.split.encoding.generation import Generation, Generator
from roles.split.encoding.written import WrittenTogether
from roles.split.program import Cancelled
from roles.split.randomness import GlobalRandomness
from tests.support.model_parts import gemma3, qwen_vl
from tests.support.writers import ending, ministral, mistral3

CPU = torch.device("cpu")
IMAGE = 5  # the token that stands for a piece of a picture, in both vision-language models
Asked = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        torch.set_grad_enabled(False)
        yield


@pytest.fixture(scope="module")
def models() -> Callable[[str], Any]:
    made: dict[str, Any] = {}
    makers: dict[str, Callable[[], Any]] = {
        "text": ministral,
        "vision": lambda: mistral3(layers=2),
        "positions": qwen_vl,
        "windows": gemma3,
    }

    def get(name: str) -> Any:
        if name not in made:
            with torch.random.fork_rng():
                torch.manual_seed(1)
                made[name] = makers[name]()
        return made[name]

    return get


def text(length: int, seed: int = 0, padding: int = 0) -> Asked:
    """A prompt, and `padding` before it, as pipelines give both."""
    words = torch.randint(10, 250, (1, length), generator=torch.Generator().manual_seed(seed))
    ids = torch.nn.functional.pad(words, (padding, 0))
    mask = torch.nn.functional.pad(torch.ones_like(words), (padding, 0))
    return {"input_ids": ids, "attention_mask": mask}


def picture(length: int, side: int, seed: int = 0) -> Asked:
    """A prompt with a picture in it, of so many pieces each way, for Qwen2.5-VL."""
    asked = text(length, seed)
    pieces = (side // 2) ** 2  # two by two are one token
    ids = torch.cat([torch.full((1, pieces), IMAGE), asked["input_ids"]], dim=1)
    pixels = torch.rand(side * side, 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(seed))
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, side, side]]),
        "mm_token_type_ids": (ids == IMAGE).int(),
    }


def plain(model: Any, seed: int, asked: Asked, **how: Any) -> list[int]:
    """What a user of transformers gets who sets this seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = model.generate(**asked, **how)
    return made[0].tolist()


def begun(generator: Generator, seed: int, asked: Asked, **how: Any) -> Generation:
    """A request whose pipeline does nothing but write."""

    def program(generation: Generation) -> Any:
        return generation.generate_of(generator)(**asked, **how)[0].tolist()

    made = Generation(f"r{seed}", program, [generator], GlobalRandomness(seed, CPU))
    made.start()
    made.read()
    return made


def turn(*group: Generation) -> None:
    """A token of each, one after the other."""
    for each in group:
        each.resume([call.run() for call in each.pending])


def shared(together: WrittenTogether, *group: Generation) -> Any:
    """A token of all in one forward, if that is how it goes."""
    calls = [call for each in group for call in each.pending]
    keys = {call.key for call in calls}
    assert len(keys) == 1
    told = together.run(calls, keys.pop() or "")
    for each, result in zip(group, told.results, strict=True):
        each.resume([result])
    return told


def test_requests_that_take_turns_write_what_they_write_alone(models) -> None:
    model, generator = models("text"), Generator("pe", models("text"))
    how = {"max_new_tokens": 9, "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    asked = {1: text(5, 1), 2: text(11, 2), 3: text(7, 3, padding=20)}
    expected = {seed: plain(model, seed, it, **how) for seed, it in asked.items()}
    running = {seed: begun(generator, seed, it, **how) for seed, it in asked.items()}
    before = torch.get_rng_state()
    while any(not each.done for each in running.values()):
        torch.rand(3)  # somebody else's
        turn(*(each for each in running.values() if not each.done))
    assert {seed: each.result() for seed, each in running.items()} == expected
    assert not torch.equal(torch.get_rng_state(), before)
    assert len({tuple(each[-9:]) for each in expected.values()}) == 3


def test_it_tells_how_many_tokens_there_are_and_may_be(models) -> None:
    made = begun(Generator("pe", models("text")), 1, text(5), max_new_tokens=6)
    seen = [(made.step, made.steps)]
    while not made.done:
        turn(made)
        seen.append((made.step, made.steps))
    assert seen == [(step, 6) for step in range(1, 7)]


def test_a_second_text_of_one_request_counts_on(models) -> None:
    generator = Generator("pe", models("text"))

    def program(generation: Generation) -> Any:
        generate = generation.generate_of(generator)
        return [generate(**text(4), max_length=7)[0], generate(**text(9), max_new_tokens=4)[0]]

    made = Generation("r", program, [generator], GlobalRandomness(1, CPU))
    made.start()
    seen = []
    while not made.done:
        turn(made)
        seen.append((made.step, made.steps))
    assert seen == [(1, 3), (2, 3), (3, 7), (4, 7), (5, 7), (6, 7), (7, 7)]


def test_it_ends_by_itself_where_the_model_says_so(models) -> None:
    model = ending(ministral(layers=1), every=4)
    how = {"max_new_tokens": 200, "do_sample": True}
    made = begun(Generator("pe", model), 5, text(6), **how)
    while not made.done:
        turn(made)
    assert made.result() == plain(model, 5, text(6), **how)
    assert made.step < made.steps == 200


@pytest.mark.parametrize("name", ["text", "vision", "positions"])
def test_tokens_of_several_in_one_forward_are_those_of_each_alone(name, models) -> None:
    """Requests join and leave between tokens; texts and paddings are of all lengths."""
    model, generator, together = models(name), Generator("pe", models(name)), WrittenTogether()
    asked = [text(5, 1), text(12, 2, padding=9), text(3, 3), text(140, 4)]
    if name == "positions":
        asked = [picture(2 + n, side, n) for n, side in enumerate((4, 8, 2, 16))]
    lengths = [14, 6, 9, 11]
    expected = [
        plain(model, 0, it, max_new_tokens=new) for it, new in zip(asked, lengths, strict=True)
    ]
    running = [
        begun(generator, 0, it, max_new_tokens=new)
        for it, new in zip(asked[:3], lengths, strict=False)
    ]
    sizes = []
    for token in range(20):
        if token == 3:
            running.append(begun(generator, 0, asked[3], max_new_tokens=lengths[3]))
        group = [each for each in running if not each.done]
        if token == 6:  # one of them by itself, and back
            turn(group[0])
        if group:
            told = shared(together, *group) if len(group) > 1 else turn(*group)
            sizes.append(told.size if told is not None else 1)
            assert told is None or told.most is None
    assert [each.result() for each in running] == expected
    assert max(sizes) == 4
    assert generator.seats.copies <= 7  # not one for each token
    assert len(generator.seats) == 0


def test_what_is_shared_is_tried_first_for_equal_lengths_and_for_others(models) -> None:
    generator, together = Generator("pe", models("text")), WrittenTogether()
    one, two = (begun(generator, n, text(5, n), max_new_tokens=30) for n in (1, 2))
    trials = [shared(together, one, two).trial for _ in range(3)]
    turn(one)
    trials += [shared(together, one, two).trial for _ in range(3)]
    assert trials == [True, False, False, True, False, False]
    for each in (one, two):
        each.cancel()


def test_a_model_that_is_not_understood_is_never_shared(models) -> None:
    """As one that reads something that all requests have in common."""
    model = ministral(layers=1)
    plain_forward = type(model).forward

    def forward(self: Any, input_ids: Any = None, **kwargs: Any) -> Any:
        out = plain_forward(self, input_ids=input_ids, **kwargs)
        out.logits = out.logits * len(input_ids) + input_ids.sum()
        return out

    kind = type("Odd", (type(model),), {"forward": forward})
    model.__class__ = kind
    how = {"max_new_tokens": 8}
    expected = [plain(model, 0, text(5, n), **how) for n in (1, 2)]
    generator, together = Generator("pe", model), WrittenTogether()
    both = [begun(generator, 0, text(5, n), **how) for n in (1, 2)]
    told = shared(together, *both)
    assert (told.size, told.most) == (1, 1)
    while going := [each for each in both if not each.done]:  # one may end before the other
        turn(*going)
    assert [each.result() for each in both] == expected


def test_windows_are_not_shared_but_take_turns(models) -> None:
    model, generator = models("windows"), Generator("pe", models("windows"))
    how = {"max_new_tokens": 5}
    both = [begun(generator, 0, text(6, n), **how) for n in (1, 2)]
    assert [each.pending[0].key for each in both] == [None, None]
    while not both[0].done:
        turn(*both)
    assert [each.result() for each in both] == [plain(model, 0, text(6, n), **how) for n in (1, 2)]


def test_beams_run_alone(models) -> None:
    model, generator = models("text"), Generator("pe", models("text"))
    how = {"max_new_tokens": 5, "num_beams": 3}
    made = begun(generator, 0, text(6), **how)
    while not made.done:
        assert [call.key for call in made.pending] in ([], [None])
        made.read()
    assert made.result() == plain(model, 0, text(6), **how)


def test_a_cancelled_request_ends_at_its_token_and_gives_its_row_back(models) -> None:
    generator, together = Generator("pe", models("text")), WrittenTogether()
    expected = plain(models("text"), 1, text(5), max_new_tokens=8)
    stays, goes = (begun(generator, 1, text(5), max_new_tokens=8) for _ in range(2))
    shared(together, stays, goes)
    goes.cancel()
    assert (goes.done, goes.pending, goes.step) == (True, (), 2)
    with pytest.raises(Cancelled):
        goes.result()
    assert len(generator.seats) == 1
    while not stays.done:
        turn(stays)
    assert stays.result() == expected
    assert len(generator.seats) == 0


def test_a_request_that_fails_in_a_shared_forward_fails_alone(models) -> None:
    generator, together = Generator("pe", models("text")), WrittenTogether()
    expected = plain(models("text"), 1, text(5), max_new_tokens=6)
    good, bad = (begun(generator, 1, text(5), max_new_tokens=6) for _ in range(2))
    shared(together, good, bad)
    (call,) = bad.pending
    call.kwargs["input_ids"].fill_(10_000)  # a word that there is not
    key = call.key
    told = together.run([good.pending[0], call], key or "")
    fine, error = told.results
    assert isinstance(error, IndexError)
    assert told.most is None
    good.resume([fine])
    bad.cancel()
    while not good.done:
        turn(good)
    assert good.result() == expected


def test_what_a_model_notes_on_its_modules_is_each_requests_own(models) -> None:
    model, generator = models("positions"), Generator("vl", models("positions"))
    how = {"max_new_tokens": 6}
    expected = [plain(model, 0, it, **how) for it in (picture(4, 8), text(9))]
    model.model.rope_deltas = None
    both = [begun(generator, 0, it, **how) for it in (picture(4, 8), text(9))]
    assert model.model.rope_deltas is None
    while not both[0].done:
        turn(*both)
    assert [each.result() for each in both] == expected
    assert model.model.rope_deltas is None


def test_hidden_states_come_with_the_tokens(models) -> None:
    generator, together = Generator("pe", models("text")), WrittenTogether()
    how = {"max_new_tokens": 4, "output_hidden_states": True, "return_dict_in_generate": True}
    expected = [models("text").generate(**text(5, n), **how) for n in (1, 2)]

    def program(asked: Asked) -> Callable[[Generation], Any]:
        return lambda generation: generation.generate_of(generator)(**asked, **how)

    both = []
    for n in (1, 2):
        made = Generation("r", program(text(5, n)), [generator], GlobalRandomness(n, CPU))
        made.start()
        made.read()
        both.append(made)
    while not both[0].done:
        shared(together, *both)
    for made, one in zip(both, expected, strict=True):
        found = made.result()
        assert torch.equal(found.sequences, one.sequences)
        assert len(found.hidden_states) == 4
        caches = (found.past_key_values, one.past_key_values)
        assert [cache.get_seq_length() for cache in caches] == [8, 8]
        torch.testing.assert_close(*(cache.layers[1].keys for cache in caches))
        torch.testing.assert_close(found.hidden_states[3][-1], one.hidden_states[3][-1])


@pytest.mark.parametrize("make", [ministral, mistral3, gemma3])
def test_hidden_states_of_a_prompt_come_once_for_every_request(make) -> None:
    """As pipelines read what their encoder computed, whether it writes a text too or not."""
    generator = Generator("pe", make())

    def program(generation: Generation) -> Any:
        told = generator.module(**text(5, 1), output_hidden_states=True)
        return [state.tolist() for state in told.hidden_states]

    def alone(number: int) -> Any:
        made = Generation(f"r{number}", program, [generator], GlobalRandomness(number, CPU))
        made.start()
        return made.result()

    first, second, third = map(alone, range(3))
    assert first == second == third


def test_nothing_is_left_of_requests_that_are_over(models) -> None:
    generator = Generator("pe", models("text"))
    made = begun(generator, 1, text(5), max_new_tokens=3)
    while not made.done:
        turn(made)
    stopped = begun(generator, 2, text(5), max_new_tokens=3)
    stopped.cancel()
    gone = [weakref.ref(each) for each in (made, stopped)]
    del made, stopped
    gc.collect()
    assert [each() for each in gone] == [None, None]
