"""What a request asks of the model that is served."""

import msgspec
import pytest

from orchestrator.http.errors import ApiError
from orchestrator.http.options import HttpOptions
from orchestrator.http.request.duration import with_seconds
from orchestrator.http.request.plan import Plan, make_plan
from orchestrator.http.request.schema import MAX_SEED, ImageRequest, JobRequest, VideoRequest
from tests.support.front_door import MODEL
from transfer.messages import ModelInfo, Parameter

replace = msgspec.structs.replace


def with_parameters(*names: str, **changes: object) -> ModelInfo:
    parameters = [Parameter(name=name, type="x", required=False) for name in names]
    return replace(MODEL, parameters=parameters, **changes)


VIDEO = with_parameters(
    "prompt", "height", "width", "num_frames", "fps", modality="video", size_multiple=32
)


def plan(model: ModelInfo = MODEL, **fields: object) -> Plan:
    return make_plan(ImageRequest(prompt="a", **fields), model, HttpOptions())  # type: ignore[arg-type]


def refused(status: int, model: ModelInfo = MODEL, **fields: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        plan(model, **fields)
    assert caught.value.status == status
    return caught.value


def test_seeds_count_up() -> None:
    made = plan(n=3, seed=40)
    assert [inputs.seed for inputs in made.inputs] == [40, 41, 42]
    assert made.seed == 40


def test_a_missing_seed_is_drawn_each_time() -> None:
    seeds = {plan().seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_last_seed_has_to_exist() -> None:
    assert plan(seed=MAX_SEED).seed == MAX_SEED
    assert refused(400, seed=MAX_SEED, n=2).param == "seed"


def test_a_priority_is_of_three_and_normal_by_default() -> None:
    assert plan().inputs[0].priority == "normal"
    assert [inputs.priority for inputs in plan(priority="high", n=2).inputs] == ["high", "high"]


def test_the_size_becomes_width_and_height() -> None:
    params = plan(size="256x128").inputs[0].params
    assert (params["width"], params["height"]) == (256, 128)


def test_auto_leaves_the_size_to_the_pipeline() -> None:
    assert plan(size="auto").inputs[0].params == {"prompt": "a"}


@pytest.mark.parametrize(
    "size", ["512", "512X512", "x512", "-512x512", "1e3x1e3", "\u0665x\u0665", ""]
)
def test_a_size_in_another_form_is_refused(size: str) -> None:
    assert refused(400, size=size).param == "size"


@pytest.mark.parametrize("size", ["8x64", "64x8", "4112x64", "99999x99999", "0x0"])
def test_sides_have_bounds(size: str) -> None:
    error = refused(400, size=size)
    assert error.param == "size"
    assert "16 to 4096" in error.message


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ("130x128", "128x128 or 144x128"),
        ("128x127", "128x112 or 128x128"),
        ("4095x17", "4080x16 or 4096x32"),
    ],
)
def test_a_size_off_the_grid_is_told_its_neighbours(size: str, nearest: str) -> None:
    error = refused(400, size=size)
    assert error.message.endswith(f"the nearest: {nearest}")


def test_the_neighbours_can_be_made_themselves() -> None:
    model = replace(MODEL, size_multiple=48)
    message = refused(400, model, size="17x4096").message
    for size in message.split("nearest: ")[1].split(" or "):
        plan(model, size=size)


def test_a_side_off_the_grid_is_told_its_neighbours() -> None:
    error = refused(400, width=100)
    assert error.param == "width"
    assert error.message.endswith("the nearest: 96 or 112")


def test_pixels_are_bounded() -> None:
    assert "8388608" in refused(400, size="4096x4096").message
    assert refused(400, width=4096, height=4096).param == "width"


def test_width_and_height_may_repeat_the_size_but_not_contradict_it() -> None:
    params = plan(size="64x32", width=64).inputs[0].params
    assert (params["width"], params["height"]) == (64, 32)
    assert refused(400, size="64x32", height=64).param == "height"


def test_one_side_alone_is_passed_on() -> None:
    assert plan(height=64).inputs[0].params == {"prompt": "a", "height": 64}


@pytest.mark.parametrize(
    "field", [{"true_cfg_scale": 2.0}, {"num_frames": 9}, {"fps": 8}, {"strength": 0.5}]
)
def test_a_field_that_the_pipeline_does_not_take_is_unsupported(field: dict[str, object]) -> None:
    error = refused(422, MODEL, **field)
    assert error.param == next(iter(field))
    assert "ZImagePipeline" in error.message


def test_a_size_for_a_pipeline_without_one_blames_the_size() -> None:
    assert refused(422, with_parameters("prompt"), size="64x64").param == "size"
    assert refused(422, with_parameters("prompt"), width=64).param == "width"


def test_a_pipeline_without_a_prompt_says_so() -> None:
    assert refused(422, with_parameters("height", "width")).param == "prompt"


def test_video_fields_reach_a_video_pipeline() -> None:
    made = plan(VIDEO, num_frames=9, fps=8).inputs[0]
    assert made.params == {"prompt": "a", "num_frames": 9, "fps": 8}
    assert made.output.format == "mp4"


def test_frames_a_second_are_said_in_the_pipelines_words_or_to_the_file() -> None:
    in_other_words = with_parameters("prompt", "frame_rate", modality="video")
    made = plan(in_other_words, fps=8).inputs[0]
    assert (made.params, made.output.fps) == ({"prompt": "a", "frame_rate": 8}, None)
    silent = with_parameters("prompt", modality="video")
    made = plan(silent, fps=8).inputs[0]
    assert (made.params, made.output.fps) == ({"prompt": "a"}, 8.0)
    assert plan(VIDEO, fps=8).inputs[0].output.fps is None


@pytest.mark.parametrize(
    ("seconds", "fps", "step", "frames"),
    [(4, 16.0, 4, 65), (0.1, 16.0, 4, 1), (1, 24.0, 8, 25), (1.5, 10.0, 1, 15), (2, 16.0, 3, 31)],
)
def test_seconds_become_the_frames_that_the_model_can_make(
    seconds: float, fps: float, step: int, frames: int
) -> None:
    model = replace(VIDEO, fps=fps, frames_step=step)
    asked = with_seconds(VideoRequest(prompt="a", seconds=seconds), seconds, model)
    assert asked.num_frames == frames


def test_the_pixels_of_a_video_are_bounded() -> None:
    assert refused(400, VIDEO, num_frames=1024, size="1280x704").param == "num_frames"


def test_a_format_that_the_model_does_not_make_is_unsupported() -> None:
    assert "mp4" in refused(422, VIDEO, output_format="png").message
    assert refused(422, output_format="wav").param == "output_format"


def test_compression_goes_with_formats_that_compress() -> None:
    output = plan(output_format="jpeg", output_compression=70).inputs[0].output
    assert (output.format, output.quality) == ("jpeg", 70)
    assert refused(400, output_compression=70).param == "output_compression"


def test_previews_of_a_job() -> None:
    def asked(model: ModelInfo, count: int | None) -> int:
        request = JobRequest(prompt="a", partial_images=count)
        return make_plan(request, model, HttpOptions()).previews

    assert [asked(MODEL, count) for count in (None, 0, 1, 3)] == [0, 0, 1, 3]
    assert asked(replace(MODEL, splittable=False, why_not="it loops"), 2) == 2
    assert asked(VIDEO, 0) == 0
    with pytest.raises(ApiError, match="makes video") as caught:
        asked(VIDEO, 2)
    assert (caught.value.status, caught.value.param) == (422, "partial_images")


def test_streaming() -> None:
    made = plan(stream=True, partial_images=2)
    assert (made.stream, made.previews) == (True, 2)
    made = plan(stream=False, partial_images=2)
    assert (made.stream, made.previews) == (False, 0)
    assert plan(stream=True).previews == 0
    error = refused(400, stream=True, response_format="url")
    assert error.param == "response_format"


def test_exact_is_passed_on() -> None:
    assert plan(exact=True).inputs[0].exact
    assert not plan().inputs[0].exact


@pytest.mark.parametrize(("asked", "told"), [("hd", "high"), (None, "high"), ("low", "low")])
def test_the_quality_is_one_that_clients_know(asked: str | None, told: str) -> None:
    assert plan(quality=asked).quality == told
