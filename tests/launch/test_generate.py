"""What `triptych generate` asks of a cluster."""

import base64
from pathlib import Path

from launch.cli import run
from tests.support.canned_server import Canned

IMAGES = "POST /v1/images/generations"


def asked(canned: Canned, folder: Path, *words: str) -> dict[str, object]:
    """The body that it sends."""
    reply = {"data": [{"b64_json": base64.b64encode(b"a picture").decode()}]}
    headers = {"x_triptych_seed": "7", "x_triptych_timings": "{}"}
    canned.answer(IMAGES, 200, reply, **headers)
    file = folder / "a.png"
    assert run(["generate", "a star", "-o", str(file), "--url", canned.url, *words]) == 0
    assert file.read_bytes() == b"a picture"
    body: dict[str, object] = canned.asked[-1][2]
    return body


def test_a_model_is_named_where_one_is_given(canned: Canned, tmp_path: Path) -> None:
    assert asked(canned, tmp_path, "--model", "small flux")["model"] == "small flux"
    assert "model" not in asked(canned, tmp_path)
