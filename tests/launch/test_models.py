import json
from pathlib import Path

import msgspec
import pytest

from launch.cli import run
from launch.cli.models import _bytes
from roles.origins import Origins
from roles.split import survey as survey_module
from roles.split.survey import Survey, survey
from transfer.messages import Replaced

DEMO = Path(__file__).parents[2] / "launch" / "demo" / "model"


@pytest.fixture(scope="module")
def found() -> Survey:
    return survey(DEMO)


@pytest.fixture(autouse=True)
def asked(found: Survey, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is asked for, of a model that is looked at once."""
    calls: list[tuple[str, str]] = []

    def once(model: str, dtype: str, origins: Origins) -> Survey:
        calls.append((model, dtype))
        return found

    monkeypatch.setattr(survey_module, "survey", once)
    return calls


def test_a_person_reads_what_the_model_supports(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", str(DEMO)]) == 0
    text = capsys.readouterr().out
    lines = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert text.startswith("model: CogView4Pipeline, image of 128x128, sides in multiples of 16\n")
    assert lines["roles"].split(None, 1)[1].strip() == "encoder, denoiser, decoder"
    assert "transformer (CogView4Transformer2DModel," in lines["denoiser"]
    assert "vae (AutoencoderTiny," in lines["decoder"]
    assert "KiB" in lines["encoder to denoiser"]
    assert "encode_prompt" in lines["encoder to denoiser"]
    assert "vae.decode" in lines["denoiser to decoder"]
    assert "required" in lines["prompt"]
    assert "50" in lines["num_inference_steps"]


def test_a_program_reads_it_as_json(
    asked: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", str(DEMO), "--json", "--dtype", "bfloat16"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["info"]["pipeline"] == "CogView4Pipeline"
    assert asked == [(str(DEMO), "bfloat16")]
    assert sorted(one["role"] for one in told["components"]) == ["decoder", "denoiser", "encoder"]
    assert [one["name"] for one in told["info"]["parameters"]][:2] == ["prompt", "negative_prompt"]
    assert all(crossing["nbytes"] > 0 for crossing in told["crossings"])


def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "/nowhere/model"]) == 1
    assert capsys.readouterr().err == "triptych: there is no model folder /nowhere/model\n"


def test_it_says_what_comes_from_where(
    found: Survey, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced = [Replaced("vae", "owner/vae@" + "1" * 40, "f")]
    info = msgspec.structs.replace(found.info, revision="2" * 40, replaced=replaced)
    other = msgspec.structs.replace(found, info=info)
    monkeypatch.setattr(survey_module, "survey", lambda *_: other)
    assert run(["models", str(DEMO), "--component", f"vae={DEMO}/vae"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["commit", "2" * 40] in lines
    assert ["vae", "from", "owner/vae@" + "1" * 40] in lines


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "none"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (24 << 30, "24 GiB")],
)
def test_bytes_as_people_read_them(count: int | None, text: str) -> None:
    assert _bytes(count) == text
