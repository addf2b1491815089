"""What are no numbers is an error that says whose, and no black picture."""

from pathlib import Path
from typing import Any

import pytest
import torch

from roles.rank.runner import error_info
from roles.split.finite import NotFinite, check
from roles.split.loading import load
from roles.split.program import Program
from tests.support.pipelines import build
from tests.support.splitting import call, drive
from transfer.messages import Role

NAN, INF = float("nan"), float("inf")
ASKED = call({"prompt": "a", "num_inference_steps": 2, "height": 32, "width": 32})


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_one_number_in_a_tree_is_found(bad: float, dtype: torch.dtype) -> None:
    sick = torch.zeros(2, 3, dtype=dtype)
    check("vae", [{"sample": sick, "name": "x", "none": None}])
    sick[1, 2] = bad
    with pytest.raises(NotFinite, match=r"^vae gave NaN or infinity in .*--dtype"):
        check("vae", [{"sample": sick}])


def test_what_has_no_numbers_is_no_error() -> None:
    for tensor in (
        torch.empty(0),
        torch.full((2,), NAN, device="meta"),
        torch.ones(2, dtype=torch.int64),
        torch.ones(2, dtype=torch.bool),
        torch.ones(2).to(torch.float8_e4m3fn),
    ):
        check("vae", tensor)


def test_who_is_to_blame() -> None:
    sick, masks = torch.tensor([NAN]), torch.tensor([-INF])
    with pytest.raises(NotFinite, match=r"numbers; half"):
        check("transformer", sick, [("encode_prompt", masks)], "what the encoder sent")
    with pytest.raises(NotFinite, match=r"numbers \(what the encoder sent had NaN already\)"):
        check("transformer", sick, [("encode_prompt", sick)], "what the encoder sent")


def test_a_client_is_told_in_one_line() -> None:
    told = error_info(NotFinite("vae gave NaN"))
    assert (told.kind, told.message, told.traceback) == ("rank_failed", "vae gave NaN", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sd15", tmp_path_factory.mktemp("finite") / "sd15")


def spoilt(folder: Path, role: Role, component: str) -> Program:
    program: Any = load(folder, (role,), "float32")
    with torch.no_grad():
        for weights in program.pipeline.components[component].parameters():
            weights.fill_(NAN)
    return program  # type: ignore[no-any-return]


def test_each_role_is_blamed_for_its_own(folder: Path) -> None:
    encoder = load(folder, ("encoder",), "float32")
    denoiser = load(folder, ("denoiser",), "float32")
    records = encoder.encode(ASKED)
    latents = drive(denoiser.denoise(ASKED, records))
    with pytest.raises(NotFinite, match=r"^vae gave NaN or infinity in the place of numbers; "):
        spoilt(folder, "decoder", "vae").decode(ASKED, latents)
    with pytest.raises(NotFinite, match=r"^unet gave NaN or infinity in the place of numbers; "):
        drive(spoilt(folder, "denoiser", "unet").denoise(ASKED, records))
    sick = spoilt(folder, "encoder", "text_encoder").encode(ASKED)
    with pytest.raises(NotFinite, match=r"^unet gave .* \(what the encoder sent had NaN already\)"):
        drive(denoiser.denoise(ASKED, sick))


def test_a_pipeline_that_runs_whole(folder: Path) -> None:
    for component in ("unet", "vae"):
        with pytest.raises(NotFinite, match=r"^vae gave NaN"):
            drive(spoilt(folder, "monolithic", component).generate(ASKED))
