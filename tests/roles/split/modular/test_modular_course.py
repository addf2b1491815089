"""Requests of modular pipelines that go on in another program: wherever their loops keep what they
carry from step to step."""

import diffusers
import pytest
import torch
from diffusers import AdaptiveProjectedGuidance, ClassifierFreeGuidance

from roles.split.denoising import answers
from roles.split.loading import load
from roles.split.modular.course import takes_steps
from roles.split.modular.guiders import Guiders
from roles.split.modular.snapshot import targets_of
from tests.support import made_up, made_up_loops
from tests.support.portable import checkpoint_at, equal, resumed, run_to_end
from tests.support.splitting import call, cross, drive

ASKED = {"prompt": "a red dream", "negative_prompt": "blue", "num_inference_steps": 4}
BRANCHES = 2  # forwards of a step, with guidance


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        made_up.introduce(patch)
        yield made_up.build(tmp_path_factory.mktemp("models") / "dream")


@pytest.fixture
def programs(folder, monkeypatch):
    """Three programs of a pipeline with some loop: an encoder, and two denoisers."""

    def loaded(loop):
        monkeypatch.setattr(diffusers, "DreamBlocks", made_up_loops.blocks_of(loop))
        return load(folder, ("encoder",)), load(folder, ("denoiser",)), load(folder, ("denoiser",))

    return loaded


def at(denoiser, request, records, step):
    """A checkpoint of a new life of the request, at the end of that step."""
    denoising = denoiser.denoise(request, records)
    denoising.start()
    found = checkpoint_at(denoising, step)
    denoising.cancel()
    return found


def by_answers(checkpoint):
    """The answers in a checkpoint, and whether there is a snapshot before them."""
    begun = checkpoint.payload["checkpoint"]
    return len(begun["answers"]), begun["snapshot"] is not None


@pytest.mark.parametrize(
    ("loop", "kept"),
    [
        (made_up.DreamLoop, [(2, False), (0, True), (0, True)]),
        (made_up_loops.InAList, [(2, False), (0, True), (0, True)]),
        (made_up_loops.Holding, [(2, False), (0, True), (0, True)]),
        (made_up_loops.InAVariable, [(2, False), (4, False), (6, False)]),
        (made_up_loops.InPlace, [(2, False), (4, False), (6, False)]),
    ],
)
def test_a_request_goes_on_from_every_step_in_another_program(programs, loop, kept):
    encoder, denoiser, other = programs(loop)
    request = call(ASKED, seed=7)
    records = cross(encoder.encode(request))
    expected = drive(denoiser.denoise(request, records))
    for step, by in zip((1, 2, 3), kept, strict=True):
        checkpoint = at(denoiser, request, records, step)
        assert (checkpoint.step, by_answers(checkpoint)) == (step, by)
        again = resumed(other, request, checkpoint)
        assert (again.step, again.steps) == (step, 4)
        assert run_to_end(again) == (4 - step) * BRANCHES
        assert equal(cross(again.result()), cross(expected))


@pytest.mark.parametrize(
    ("loop", "steps"),
    [
        (made_up.DreamLoop, (1, 2)),
        (made_up.DreamLoop, (2, 3)),
        (made_up_loops.InAVariable, (1, 3)),
        (made_up_loops.Pieces, (2, 6)),
        (made_up_loops.Pieces, (5, 6)),
    ],
)
def test_one_that_went_on_goes_on_again(programs, loop, steps):
    encoder, denoiser, other = programs(loop)
    request = call(ASKED, seed=7)
    records = cross(encoder.encode(request))
    expected = drive(denoiser.denoise(request, records))
    again = resumed(other, request, at(denoiser, request, records, steps[0]))
    once_more = resumed(denoiser, request, checkpoint_at(again, steps[1]))
    run_to_end(once_more)
    assert equal(cross(once_more.result()), cross(expected))
    run_to_end(again)
    assert equal(cross(again.result()), cross(expected))


def test_of_a_film_made_in_pieces_only_the_last_piece_is_run_through(programs):
    encoder, denoiser, other = programs(made_up_loops.Pieces)
    request = call(ASKED, seed=7)
    records = cross(encoder.encode(request))
    expected = drive(denoiser.denoise(request, records))
    checkpoint = at(denoiser, request, records, 6)
    assert by_answers(checkpoint) == (2, True)
    again = resumed(other, request, checkpoint)
    assert (again.step, run_to_end(again)) == (6, 2)
    assert equal(cross(again.result()), cross(expected))


def test_random_numbers_go_on_where_they_were(programs, monkeypatch):
    """Each step draws from the request's generator, and from the global one."""

    class DrawingStep(made_up.DreamStep):
        @property
        def inputs(self):
            return [*super().inputs, made_up.InputParam("generator")]

        @torch.no_grad()
        def __call__(self, components, block_state, i, t):
            components, block_state = super().__call__(components, block_state, i=i, t=t)
            shape = block_state.latents.shape
            own = torch.randn(shape, generator=block_state.generator)
            block_state.latents = block_state.latents + own + torch.randn(shape)
            return components, block_state

    class Drawing(made_up.DreamLoop):
        block_classes = (DrawingStep,)

    encoder, denoiser, other = programs(Drawing)
    request = call(ASKED, seed=7)
    records = cross(encoder.encode(request))
    expected = drive(denoiser.denoise(request, records))
    checkpoint = at(denoiser, request, records, 2)
    assert by_answers(checkpoint) == (0, True)
    torch.manual_seed(123)  # whatever the other program's process drew
    again = resumed(other, request, checkpoint)
    run_to_end(again)
    assert equal(cross(again.result()), cross(expected))


@pytest.mark.parametrize(
    ("guider", "way"),
    [
        (ClassifierFreeGuidance(3.0), (0, True)),
        (AdaptiveProjectedGuidance(3.0, adaptive_projected_guidance_momentum=-0.5), (4, False)),
    ],
)
def test_a_guiders_momentum_goes_along(programs, guider, way):
    encoder, denoiser, other = programs(made_up.DreamLoop)
    for each in (encoder, denoiser, other):
        each._guiders = Guiders({"guider": guider}, ())
    request = call(ASKED, seed=7)
    records = cross(encoder.encode(request))
    expected = drive(denoiser.denoise(request, records))
    checkpoint = at(denoiser, request, records, 2)
    assert by_answers(checkpoint) == way
    again = resumed(other, request, checkpoint)
    run_to_end(again)
    assert equal(cross(again.result()), cross(expected))


def test_what_changes_its_encodings_cannot_go_on(programs):
    encoder, denoiser, _ = programs(made_up_loops.Spoiling)
    request = call(ASKED)
    checkpoint = at(denoiser, request, encoder.encode(request), 2)
    assert checkpoint.payload is None
    assert checkpoint.why_not == "DreamModularPipeline: it changes what its encoders gave"


def test_what_a_forward_may_write_to_is_not_answered_for_it(programs):
    """A cache of keys and values, say: without the forward it would stay empty."""

    class Memory:
        pass

    class RememberingStep(made_up.DreamStep):
        @torch.no_grad()
        def __call__(self, components, block_state, i, t):
            latents = block_state.latents
            text = block_state.dreams["text"]
            velocity = components.dreamer(latents, t.expand(1), text, memory=Memory())[0]
            block_state.latents = components.scheduler.step(velocity, t, latents)[0]
            return components, block_state

    class Remembering(made_up.DreamLoop):
        block_classes = (RememberingStep,)

    encoder, denoiser, _ = programs(Remembering)
    forward = denoiser.pipeline.dreamer.forward
    denoiser.pipeline.dreamer.forward = lambda *args, memory: forward(*args)
    request = call(ASKED)
    checkpoint = at(denoiser, request, encoder.encode(request), 1)
    assert checkpoint.payload is None
    assert checkpoint.why_not.endswith("its model is given a Memory, and may keep something in it")


def test_answers_are_kept_up_to_a_bound(programs, monkeypatch):
    encoder, denoiser, _ = programs(made_up_loops.InAVariable)
    request = call(ASKED)
    records = encoder.encode(request)
    (one, *_) = at(denoiser, request, records, 1).payload["checkpoint"]["answers"]
    monkeypatch.setattr(answers, "MOST_BYTES", 2 * BRANCHES * one[0].nbytes)
    assert at(denoiser, request, records, 2).payload is not None
    checkpoint = at(denoiser, request, records, 3)
    assert checkpoint.payload is None
    assert "what its forwards gave is more than" in checkpoint.why_not


def test_a_checkpoint_is_not_changed_by_what_follows(programs):
    encoder, denoiser, other = programs(made_up_loops.InAList)
    request = call(ASKED, seed=7)
    denoising = denoiser.denoise(request, encoder.encode(request))
    denoising.start()
    checkpoint = checkpoint_at(denoising, 2)
    before = cross(checkpoint.payload)
    run_to_end(denoising)
    run_to_end(resumed(other, request, checkpoint))
    assert equal(_plain(cross(checkpoint.payload)), _plain(before))


def _plain(payload):
    """Without the generator, of which every reading makes another."""
    values = {k: v for k, v in payload["values"].items() if not isinstance(v, torch.Generator)}
    return payload | {"values": values}


def test_one_whose_pipeline_comes_another_way_fails(programs):
    """What it finds is not what it left: better no picture than another one."""
    encoder, denoiser, other = programs(made_up.DreamLoop)
    request = call(ASKED, seed=7)
    records = encoder.encode(request)
    checkpoint = at(denoiser, request, records, 2)
    begun = checkpoint.payload["checkpoint"]
    begun["snapshot"]["block"].pop("latents")
    again = other.denoise(request, cross(checkpoint.payload))
    again.start()
    with pytest.raises(RuntimeError, match="another way"):
        again.result()
    begun["snapshot"] |= {"lap": 9}
    again = other.denoise(request, cross(checkpoint.payload))
    again.start()
    with pytest.raises((RuntimeError, LookupError)):
        again.result()


def test_a_whole_pipeline_has_none(folder):
    denoising = load(folder, ("monolithic",)).generate(call(ASKED))
    denoising.start()
    denoising.mark()
    assert denoising.checkpoint.payload is None
    assert "DreamModularPipeline" in denoising.checkpoint.why_not
    denoising.cancel()


def test_what_a_loop_counts_with_and_where_steps_are_taken_is_read_from_the_source():
    assert targets_of(made_up.DreamLoop) == {"i", "t"}
    assert targets_of(made_up_loops.Pieces) == {"k"}
    assert takes_steps(made_up_loops.Piece)
    assert not takes_steps(made_up.DreamStep)
