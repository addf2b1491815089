import json
from pathlib import Path

import pytest

from launch.cli import run
from launch.cli.models import _bytes

DEMO = Path(__file__).parents[2] / "launch" / "demo" / "model"


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


def test_a_program_reads_it_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", str(DEMO), "--json", "--dtype", "bfloat16"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["info"]["pipeline"] == "CogView4Pipeline"
    assert told["dtype"] == "bfloat16"
    assert [one["role"] for one in told["components"]] == ["encoder", "decoder", "denoiser"]
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
