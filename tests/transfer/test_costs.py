"""Predicted seconds: from the shape alone at first, then from what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.costs import MAX_SHAPES, OUTLIER, CostModel, Shape, Workload, workload
from transfer.messages import Inputs, ModelInfo, Parameter

SMALL = Shape("denoiser", 64, 64)
LARGE = Shape("denoiser", 128, 128)
MODEL = ModelInfo(
    "m",
    "Pipeline",
    "f00d",
    "image",
    [Parameter("num_inference_steps", "int", False, 28)],
    default_size=(96, 32),
)


def asked(**params: int | float) -> Workload:
    return workload("denoiser", Inputs({"prompt": "x", **params}, 1), MODEL)


def test_what_is_left_out_is_the_model_s_own() -> None:
    assert asked() == Workload(Shape("denoiser", 96, 32, passes=2), 28)


def test_a_workload_is_steps_of_a_shape() -> None:
    given = asked(width=64, height=32, num_frames=9, num_inference_steps=10, guidance_scale=1.0)
    assert given == Workload(Shape("denoiser", 64, 32, frames=9, passes=1), 10)
    assert given.shape.units == 64 * 32 * 9


def test_true_guidance_counts_two_passes() -> None:
    assert asked(guidance_scale=1.0, true_cfg_scale=4.0).shape.passes == 2


def test_without_a_model_there_are_still_numbers() -> None:
    assert workload("denoiser", Inputs({"prompt": "x"}, 1), None).steps > 0


def test_an_encoder_and_a_decoder_have_one_step() -> None:
    inputs = Inputs({"prompt": "x", "width": 64, "height": 64, "num_inference_steps": 9}, 1)
    assert workload("encoder", inputs, MODEL) == Workload(Shape("encoder", 1, 1), 1)
    assert workload("decoder", inputs, MODEL) == Workload(Shape("decoder", 64, 64), 1)


def test_before_anything_is_known_the_order_is_right() -> None:
    costs = CostModel()
    few, many = Workload(SMALL, 10), Workload(SMALL, 50)
    assert costs.seconds(few) < costs.seconds(many) < costs.seconds(Workload(LARGE, 50))


def test_a_first_measure_is_believed() -> None:
    costs = CostModel()
    costs.learn(SMALL, 0.5)
    assert costs.seconds(Workload(SMALL, 10)) == pytest.approx(5.0)


def test_an_unknown_shape_costs_like_its_neighbour() -> None:
    costs = CostModel()
    costs.learn(SMALL, 0.5)
    costs.learn(Shape("denoiser", 1024, 1024), 900.0)
    assert costs.step(LARGE) == pytest.approx(2.0)
    costs.learn(Shape("decoder", 128, 128), 77.0)  # of another role: says nothing here
    assert costs.step(LARGE) == pytest.approx(2.0)


def test_batches_are_learned_apart_and_stand_in_for_each_other() -> None:
    costs = CostModel()
    costs.learn(SMALL, 0.2, batch=4)
    assert costs.step(SMALL) == pytest.approx(0.2)
    costs.learn(SMALL, 0.5)
    assert costs.step(SMALL) == pytest.approx(0.5)
    assert costs.step(SMALL, 3) == pytest.approx(0.2)


def test_a_machine_that_changes_its_speed_is_followed_and_one_slow_step_is_not() -> None:
    costs = CostModel()
    costs.learn(SMALL, 1.0)
    costs.learn(SMALL, 1000.0)
    assert costs.step(SMALL) < OUTLIER
    for _ in range(40):
        costs.learn(SMALL, 3.0)
    assert costs.step(SMALL) == pytest.approx(3.0, rel=0.01)


@pytest.mark.parametrize("nonsense", [0.0, -1.0, float("inf"), float("nan")])
def test_nonsense_is_not_learned(nonsense: float) -> None:
    costs = CostModel()
    costs.learn(SMALL, nonsense)
    assert len(costs) == 0


def test_no_more_shapes_are_remembered_than_allowed() -> None:
    costs = CostModel()
    for side in range(1, 2 * MAX_SHAPES):
        costs.learn(Shape("denoiser", side, 8), float(side))
    assert len(costs) == MAX_SHAPES
    newest = 2 * MAX_SHAPES - 1
    assert costs.step(Shape("denoiser", newest, 8)) == pytest.approx(newest)
    assert costs.step(Shape("denoiser", 1, 8)) > 0.0  # from its nearest neighbour


sides = st.integers(8, 64)
shapes = st.builds(lambda width, height: Shape("denoiser", width, height), sides, sides)


@given(st.lists(st.tuples(shapes, st.floats(1e-6, 1e3), st.integers(1, 4)), max_size=40), shapes)
def test_every_shape_has_a_prediction(
    measured: list[tuple[Shape, float, int]], asked: Shape
) -> None:
    costs = CostModel()
    for shape, seconds, batch in measured:
        costs.learn(shape, seconds, batch)
    assert 0.0 < costs.step(asked) < float("inf")
