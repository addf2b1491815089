import json
from pathlib import Path

import pytest

from launch.cli import run
from launch.cli.models import _bytes
from roles.origins import Origins
from roles.split import survey as survey_module
from roles.split.survey import Survey, survey

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


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "none"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (24 << 30, "24 GiB")],
)
def test_bytes_as_people_read_them(count: int | None, text: str) -> None:
    assert _bytes(count) == text
