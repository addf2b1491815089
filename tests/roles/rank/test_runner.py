"""What a rank does with requests, on the scripted program: slots in, slots and files out."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest
from PIL import Image as Pillow

from roles.calls import Begin, Key, Outcome, Outcomes, Peek, Reply, Run, Store, Unit
from roles.rank.runner import Runner, error_info
from roles.split.encoding.encodings import Encodings
from tests.support.scripted_program import ScriptedProgram
from tests.support.troupe import red
from transfer.codec import encode
from transfer.messages import CacheReport, Delivery, Inputs, Output, Role, Scalar, Upload
from transfer.payload import unpack
from transfer.pool import SlotPool


class Bench:
    def __init__(self, rank: int = 0, slice_s: float = 0.0) -> None:
        self.wanted = False
        self.pool = SlotPool.create(4, 1 << 16, 4)
        self.program = ScriptedProgram()
        self.runner = Runner(
            self.program, self.pool, rank, 1, lambda: None, slice_s, lambda: self.wanted
        )

    def begin(
        self,
        role: Role,
        name: str = "r",
        given: Delivery | None = None,
        uploads: Sequence[Upload] = (),
        **params: Scalar,
    ) -> Outcome:
        inputs = Inputs(params, seed=40, uploads=[*uploads])
        return one(self.runner.begin(Begin(name, 1, role, inputs, given)))

    def run(self, unit: Unit, name: str = "r") -> Outcome:
        return one(self.runner.run(Run(unit, (((name, 1),),))))

    def collected(self, name: str = "r") -> Outcome:
        """The files, when they are there."""
        told: Future[Outcome] = Future()
        self.runner.collect((name, 1), told.set_result)
        return told.result(30)

    def stored(self, nbytes: int, slot: int, name: str = "r") -> Delivery:
        """The payload, written where the next role finds it."""
        checksum = self.runner.store(Store(name, 1, [slot])).checksum
        assert checksum is not None
        return Delivery(1, [slot], nbytes, checksum)

    def close(self) -> None:
        self.runner.close()
        self.pool.close()

    @property
    def live(self) -> dict[Key, object]:
        return dict(self.runner._live)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with contextlib.closing(Bench()) as made:
        yield made


def one(outcomes: Outcomes) -> Outcome:
    (outcome,) = outcomes.outcomes
    return outcome


def encoded(bench: Bench, **params: Scalar) -> Delivery:
    assert bench.begin("encoder", **params).error is None
    outcome = bench.run("encode")
    assert outcome.done
    assert outcome.nbytes is not None
    return bench.stored(outcome.nbytes, slot=0)


def test_a_request_through_all_roles(bench: Bench) -> None:
    given = encoded(bench, prompt="hello")
    began = bench.begin("denoiser", given=given, prompt="hello")
    assert (began.done, began.step, began.steps) == (False, 0, 3)
    assert began.read_s > 0
    steps = [bench.run("step") for _ in range(3)]
    assert [(step.step, step.done) for step in steps] == [(1, False), (2, False), (3, True)]
    assert steps[2].nbytes is not None
    latents = bench.stored(steps[2].nbytes, slot=1)
    assert not bench.live

    assert not bench.begin("decoder", given=latents, prompt="hello").done
    decoded = bench.run("decode")
    assert (decoded.done, decoded.nbytes, decoded.media) == (True, None, None)
    made = bench.collected()
    assert made.media is not None
    assert made.compute_s > 0
    data = os.pread(made.media[0].fd, made.media[0].nbytes, 0)
    picture = Pillow.open(io.BytesIO(data))
    assert picture.getpixel((0, 0)) == (43, 0, 0)  # the seed and three steps
    assert picture.info == {"prompt": "hello", "seed": "40", "model": "scripted"}
    bench.runner.drop(("r", 1))
    assert not bench.live
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made.media[0].fd)


def test_an_encode_tells_how_the_cache_stands(bench: Bench) -> None:
    bench.begin("encoder", "without")
    assert bench.run("encode", "without").encodings is None
    bench.program.encodings = Encodings(4096, "scripted")
    bench.begin("encoder", "with")
    assert bench.run("encode", "with").encodings == CacheReport(0, 0, 0, 0, limit=4096)


def test_the_whole_pipeline_in_one(bench: Bench) -> None:
    bench.begin("monolithic", steps=1)
    outcome = bench.run("step")
    assert (outcome.done, outcome.nbytes) == (True, None)
    assert len(bench.collected().media or ()) == 1


def test_requests_of_one_call_fail_alone(bench: Bench) -> None:
    for name, params in (("good", {}), ("bad", {"raise_at": "1"})):
        bench.begin("monolithic", name, **params)
    call = Run("step", ((("good", 1),), (("bad", 1),), (("unknown", 1),)))
    good, bad, unknown = bench.runner.run(call).outcomes
    assert good.error is None
    assert good.step == 1
    assert bad.error is not None
    assert (bad.error.kind, bad.error.message) == ("rank_failed", "RuntimeError: scripted at 1")
    assert "_forward" in (bad.error.traceback or "")
    assert unknown.error is not None
    assert list(bench.live) == [("good", 1)]


def test_bad_input_names_its_field(bench: Bench) -> None:
    bench.begin("encoder", bad_input_at="encode")
    error = bench.run("encode").error
    assert error is not None
    assert (error.kind, error.param, error.traceback) == ("invalid_request", "prompt", None)


@pytest.mark.parametrize(("at", "kind"), [("1", "invalid_request"), ("2", "rank_failed")])
def test_pictures_that_the_first_forward_cannot_join_are_bad_input(
    bench: Bench, at: str, kind: str
) -> None:
    two = [Upload("image", "hash", 1)] * 2
    bench.begin("monolithic", uploads=two, raise_at=at, raise_words="The size of tensor a (8) must")
    outcomes = [bench.run("step") for _ in range(int(at))]
    error = outcomes[-1].error
    assert error is not None
    assert (error.kind, error.param) == (kind, "image" if kind == "invalid_request" else None)


def test_a_flipped_bit_is_an_error_and_never_an_image(bench: Bench) -> None:
    given = encoded(bench, prompt="hello")
    (view,) = bench.pool.segments([0])
    view[given.nbytes - 1] ^= 1
    error = bench.begin("denoiser", given=given, prompt="hello").error
    assert error is not None
    assert error.kind == "payload"
    assert not bench.live


def test_a_payload_of_several_slots(bench: Bench) -> None:
    bench.begin("encoder", size=30_000)
    outcome = bench.run("encode")
    assert outcome.nbytes is not None
    stored = bench.runner.store(Store("r", 1, [5, 4]))
    assert stored.checksum is not None
    value = unpack(bench.pool.segments([5, 4], outcome.nbytes), outcome.nbytes, stored.checksum)
    assert value["embeds"].shape == (30_000,)


def test_only_the_first_rank_writes() -> None:
    bench = Bench(rank=1)
    bench.begin("encoder")
    bench.run("encode")
    assert bench.runner.store(Store("r", 1, [0])).checksum is None
    bench.begin("monolithic", steps=1)
    assert bench.run("step").done
    assert bench.collected().media == []


def test_a_request_without_steps_is_done_when_it_began(bench: Bench) -> None:
    assert bench.begin("monolithic", steps=0).done


def test_a_format_that_the_model_has_not(bench: Bench) -> None:
    inputs = Inputs({"steps": 0}, seed=1, output=Output("wav"))
    assert one(bench.runner.begin(Begin("r", 1, "monolithic", inputs, None))).done
    error = bench.collected().error
    assert error is not None
    assert (error.kind, error.param) == ("invalid_request", "output_format")


def test_dropping_twice_or_the_unknown_is_fine(bench: Bench) -> None:
    bench.begin("monolithic")
    for name in ("r", "r", "never"):
        bench.runner.drop((name, 1))
    assert not bench.live


def test_a_slice_ends_with_its_step_when_something_else_is_wanted() -> None:
    bench = Bench(slice_s=60.0)
    bench.wanted = True
    encoded = bench.begin("encoder") and bench.run("encode")
    assert encoded.nbytes is not None
    bench.begin("denoiser", "d", bench.stored(encoded.nbytes, 4), steps=5)
    for step in (1, 2, 3):
        outcome = bench.run("step", "d")
        assert (outcome.step, outcome.done) == (step, False)
    bench.close()


def test_short_steps_share_a_slice() -> None:
    bench = Bench(slice_s=60.0)
    encoded = bench.begin("encoder") and bench.run("encode")
    assert encoded.nbytes is not None
    bench.begin("denoiser", "d", bench.stored(encoded.nbytes, 4), steps=5)
    outcome = bench.run("step", "d")
    assert (outcome.step, outcome.done) == (5, True)
    bench.close()


def test_errors_of_others_can_always_be_told() -> None:
    """Half of a surrogate pair, as in the name of a file that is not UTF-8; and a very long one."""
    told = error_info(OSError("cannot read \udcff" + "x" * 5_000_000))
    assert told.kind == "rank_failed"
    assert len(encode(Reply(1, False, Outcomes([Outcome("r", 1, told)])))) < 100_000


def peeked(bench: Bench, of: str = "r") -> Outcome:
    return one(bench.runner.peek(Peek("look", 1, of, 1)))


def test_a_preview_is_a_payload_of_its_own_and_changes_nothing(bench: Bench) -> None:
    bench.begin("encoder")
    given = bench.stored(bench.run("encode").nbytes or 0, 4)
    bench.begin("denoiser", given=given)
    bench.run("step")
    outcome = peeked(bench)
    assert (outcome.done, outcome.error) == (True, None)
    look = bench.stored(outcome.nbytes or 0, 5, "look")
    payload = unpack(bench.pool.segments([5], look.nbytes), look.nbytes, look.checksum)
    assert payload["latents"].tolist() == [41.0] * 8  # the seed, and one step
    assert list(bench.live) == [("r", 1)]
    while not (last := bench.run("step")).done:
        pass
    last = bench.stored(last.nbytes or 0, 6)
    payload = unpack(bench.pool.segments([6], last.nbytes), last.nbytes, last.checksum)
    assert payload["latents"].tolist() == [43.0] * 8


def test_a_preview_of_a_whole_pipeline_is_a_picture_and_changes_nothing(bench: Bench) -> None:
    bench.begin("monolithic")
    assert peeked(bench).error is not None
    bench.run("step")
    assert peeked(bench).done
    assert reds(bench.collected("look")) == [41]
    bench.runner.drop(("look", 1))
    while not bench.run("step").done:
        pass
    assert reds(bench.collected()) == [43]


def reds(outcome: Outcome) -> list[int]:
    """The one number of each picture; closes their files."""
    found = []
    for file in outcome.media or ():
        with open(file.fd, "rb") as opened:
            opened.seek(0)
            found.append(red(opened.read()))
    return found


def test_of_what_is_over_or_unknown_there_is_no_preview(bench: Bench) -> None:
    told = peeked(bench)
    assert told.error is not None
    assert told.error.kind == "unsupported"
    assert not bench.live
    bench.begin("encoder")
    told = peeked(bench)
    assert told.error is not None
    assert list(bench.live) == [("r", 1)]


def test_a_turn_ends_when_a_preview_is_due() -> None:
    with contextlib.closing(Bench(slice_s=60.0)) as bench:
        bench.begin("encoder")
        given = bench.stored(bench.run("encode").nbytes or 0, 4)
        inputs = Inputs({"steps": 9}, seed=40)
        bench.runner.begin(Begin("r", 1, "denoiser", inputs, given, previews=2))
        assert [bench.run("step").step for _ in range(3)] == [3, 6, 9]
