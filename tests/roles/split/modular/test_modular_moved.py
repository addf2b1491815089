"""A rank's requests of a modular pipeline, which go on in another rank as the core has them do."""

import numpy as np
import pytest

from roles.calls import Begin, Run, Store
from roles.rank.runner import Runner
from roles.split.loading import load
from tests.support import made_up
from tests.support.splitting import arrays, call, cross, drive, same
from transfer.messages import Delivery
from transfer.payload import pack, unpack
from transfer.pool import SlotPool

ASKED = {"prompt": "a red dream", "num_inference_steps": 4}
SLOT = 1 << 16
KEY = ("r", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        made_up.introduce(patch)
        yield made_up.build(tmp_path_factory.mktemp("models") / "dream")


@pytest.fixture
def pool():
    made = SlotPool.create(4, SLOT, 4)
    yield made
    made.close()


def runner_of(folder, pool):
    return Runner(load(folder, ("denoiser",)), pool, 0, 1, lambda: None, 0.0, lambda: False)


def written(pool, payload, slot):
    packed = pack(payload)
    return Delivery(1, [slot], packed.nbytes, packed.write(pool.segments([slot], packed.nbytes)))


def to_its_end(runner, pool, outcome):
    steps = 0
    while not outcome.done:
        (outcome,) = runner.run(Run("step", ((KEY,),))).outcomes
        steps += 1
    assert outcome.error is None
    checksum = runner.store(Store(*KEY, [3])).checksum
    return unpack(pool.segments([3], outcome.nbytes), outcome.nbytes, checksum), steps


@pytest.mark.parametrize("step", [1, 3])
def test_a_request_is_moved_at_its_step(folder, pool, step):
    request = call(ASKED, seed=5, exact=True)
    encoded = load(folder, ("encoder",)).encode(request)
    expected = drive(load(folder, ("denoiser",)).denoise(request, encoded))
    first, second = runner_of(folder, pool), runner_of(folder, pool)
    begin = Begin(*KEY, "denoiser", request.inputs, written(pool, encoded, 0))
    (outcome,) = first.begin(begin).outcomes
    for each in range(step):
        marked = (KEY,) if each == step - 1 else ()
        (outcome,) = first.run(Run("step", ((KEY,),), marked=list(marked))).outcomes
    assert (outcome.checkpoint.step, outcome.checkpoint.why_not) == (step, None)
    nbytes = outcome.checkpoint.nbytes
    checksum = first.store(Store(*KEY, [1], checkpoint=True)).checksum
    first.drop(KEY)
    moved = Begin(*KEY, "denoiser", request.inputs, Delivery(1, [1], nbytes, checksum))
    (outcome,) = second.begin(moved).outcomes
    assert (outcome.step, outcome.steps) == (step, 4)
    made, steps = to_its_end(second, pool, outcome)
    assert steps == 4 - step
    decoder = load(folder, ("decoder",))
    pictures = [arrays(decoder.decode(request, each)) for each in (made, cross(expected))]
    assert same(*pictures)
    assert np.ptp(pictures[0][0]) > 0
