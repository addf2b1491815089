"""What a model says of itself, derived for every family alike."""

import diffusers
import pytest
from msgspec.structs import replace

from roles.samples import Video
from roles.split.describe import modality
from roles.split.program import BadInput
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, drive

EXPECTED = {
    "flux": ("image", 16, (1024, 1024)),
    "qwenimage": ("image", 16, (1024, 1024)),
    "sd15": ("image", 8, (32, 32)),
    "sdxl": ("image", 8, (32, 32)),
    "sd3": ("image", 16, (256, 256)),
    "wan": ("video", 16, (832, 480)),
    "ltx": ("video", 32, (704, 512)),
    "zimage": ("image", 16, (1024, 1024)),
    "pixart": ("image", 8, (64, 64)),
    "animatediff": ("video", 8, (32, 32)),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("WanAnimatePipeline", "video"),  # these say no number of frames
        ("WanVideoToVideoPipeline", "video"),
        ("LTXLatentUpsamplePipeline", "video"),
        ("TextToVideoZeroPipeline", "video"),  # gives its frames as images
        ("LTX2Pipeline", "video"),  # with its sound
        ("StableAudio3Pipeline", "audio"),  # no argument speaks of sound
        ("AudioLDM2Pipeline", "audio"),
        ("FluxControlPipeline", "image"),
        ("MarigoldDepthPipeline", "image"),
    ],
)
def test_what_a_class_makes(name, kind):
    of_the_class = getattr(diffusers, name)
    assert modality(of_the_class.__new__(of_the_class)) == kind


@pytest.mark.parametrize("name", EXPECTED)
def test_modality_and_sizes(name, program):
    info = program(name, "denoiser").info
    assert (info.modality, info.size_multiple, info.default_size) == EXPECTED[name]


@pytest.mark.parametrize("role", ["encoder", "denoiser", "decoder"])
def test_every_role_describes_the_same_model(role, program):
    """Speed is the denoiser's own affair."""
    mine, others = program("wan", role).info, program("wan", "encoder").info
    assert replace(mine, speed=None, step_caches=[]) == replace(others, speed=None, step_caches=[])


@pytest.mark.parametrize("name", ["flux", "sd15", "sd3", "wan", "ltx", "zimage"])
def test_the_multiple_is_what_the_pipeline_makes(name, program):
    """The next multiple comes out at its size; half a multiple less is refused at the door, and
    the pipeline itself would refuse it or make something smaller."""
    whole, params = program(name, "monolithic"), PARAMS[name]
    multiple = whole.info.size_multiple
    good = {**params, "num_inference_steps": 1, "height": 64, "width": 64 + multiple}
    made = arrays(drive(whole.generate(call(good))))
    assert made[0].shape == (64, 64 + multiple, 3)
    with pytest.raises(BadInput) as caught:
        whole.generate(call({**good, "width": 64 + multiple // 2}))
    assert caught.value.param == "size"


def test_a_picture_of_another_size_is_an_error(program):
    """Where the multiple does not tell, the finished picture does."""
    whole = program("flux", "monolithic")
    info = whole.info
    whole.info = type(info)(
        **{f: getattr(info, f) for f in info.__struct_fields__} | {"size_multiple": 1}
    )
    try:
        with pytest.raises(BadInput, match="makes 32x32 where 40x32 is asked") as caught:
            drive(whole.generate(call({**PARAMS["flux"], "width": 40})))
    finally:
        whole.info = info
    assert caught.value.param == "size"


@pytest.mark.parametrize(("name", "fps"), [("wan", 16.0), ("ltx", 24.0)])
def test_a_video_has_its_frame_rate(name, fps, program):
    whole = program(name, "monolithic")
    (video,) = drive(whole.generate(call({**PARAMS[name], "num_inference_steps": 1})))
    assert isinstance(video, Video)
    assert (video.fps, len(video.frames)) == (fps, 9)
