"""What poses as a component, without a pipeline around it."""

import pytest
import torch
from diffusers import AutoencoderKL

from roles.split import skeleton
from roles.split.face import Face, NotHere, StandIn, Unposed, Watched
from tests.support.model_parts import clip, vae


@pytest.fixture(scope="module")
def real() -> AutoencoderKL:
    return vae()


def test_a_face_poses_and_answers(real):
    face = Face(real, {"decode": lambda latents: "answered"})
    assert isinstance(face, AutoencoderKL)
    assert isinstance(face, torch.nn.Module)
    assert face
    assert face.config is real.config
    assert face.decode(None) == "answered"
    assert face.encode == real.encode


def test_what_is_set_on_a_face_stays_there(real):
    face = Face(real)
    face.use_tiling = True
    assert face.use_tiling
    assert not real.use_tiling


def test_the_modules_of_a_stand_in_refuse_too(real):
    stand_in = StandIn("vae", real, torch.device("cpu"))
    assert isinstance(stand_in.quant_conv, torch.nn.Conv2d)
    assert stand_in.decoder.conv_in.weight is real.decoder.conv_in.weight
    with pytest.raises(NotHere, match=r"vae\.decoder\.conv_in\.__call__, whose weights"):
        stand_in.decoder.conv_in(torch.zeros(1, 4, 2, 2))


def test_a_stand_in_refuses_to_compute(real):
    stand_in = StandIn("vae", real, torch.device("cpu"), {"encode": lambda x: x})
    assert stand_in.encode(3) == 3
    with pytest.raises(NotHere, match=r"vae\.decode, whose weights are not in this role"):
        stand_in.decode(torch.zeros(1))
    with pytest.raises(NotHere, match="__call__"):
        stand_in(torch.zeros(1))


def test_a_cast_stand_in_leaves_the_component_alone(real):
    stand_in = StandIn("vae", real, torch.device("cpu"))
    assert stand_in.to(dtype=torch.float16) is stand_in
    assert stand_in.dtype == torch.float16
    assert real.dtype == torch.float32
    assert next(real.parameters()).device.type == "cpu"
    assert stand_in.for_request({}).dtype == torch.float16


def test_an_unposed_stand_in_is_not_of_its_components_class(real):
    stand_in = Unposed("unet", real, torch.device("cpu"))
    assert not isinstance(stand_in, AutoencoderKL)
    assert isinstance(stand_in, StandIn)
    assert stand_in.config is real.config


def test_watching_sees_every_way_of_computing():
    seen = []

    def compute(name, function, args, kwargs):
        seen.append(name)
        return function(*args, **kwargs)

    encoder = clip()
    face = Watched(encoder, compute)
    ids = torch.zeros(1, 3, dtype=torch.long)
    assert face.dtype == torch.float32
    assert next(face.parameters()) is next(encoder.parameters())
    assert seen == []
    face(ids)
    face.forward(ids)
    face.get_input_embeddings()(ids)
    face.final_layer_norm(torch.zeros(1, 32))
    assert seen == ["__call__", "forward", None, None]


def test_a_skeleton_holds_nothing_and_tells_everything(real):
    hollow = skeleton.hollow_copy(real)
    assert {parameter.device.type for parameter in hollow.parameters()} == {"meta"}
    assert [p.shape for p in hollow.parameters()] == [p.shape for p in real.parameters()]
    assert next(real.parameters()).device.type == "cpu"
