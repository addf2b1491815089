"""The examples of README.md and docs/client.md do what they say, as they stand there.

Blocks marked `python` and `sh` are run in order, against a cluster of the demo model; the
addresses in them are replaced by the cluster's. Blocks marked `console` are for reading.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from launch import Cluster

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "launch" / "demo" / "model"
PAGES = ("README.md", "docs/client.md")
ADDRESS = "http://127.0.0.1:8000"
_BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def examples(page: str) -> list[Example]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Example(page, text.count("\n", 0, block.start()) + 2, block[1], block[2])
        for block in _BLOCK.finditer(text)
    ]


@pytest.fixture(scope="module")
def demo() -> Iterator[Cluster]:
    with Cluster(MODEL, encoders=1, denoisers=1, decoders=1, threads=1) as cluster:
        yield cluster


@pytest.mark.parametrize("example", [each for page in PAGES for each in examples(page)], ids=str)
def test_example(example: Example, demo: Cluster, tmp_path: Path) -> None:
    (tmp_path / "launch").symlink_to(ROOT / "launch")  # examples name launch/demo/model
    shell = ("sh", "-e", "-c")
    command = shell if example.language == "sh" else (sys.executable, "-c")
    done = subprocess.run(
        [*command, example.text.replace(ADDRESS, demo.url)],
        cwd=tmp_path,
        env={
            **os.environ,
            "TRIPTYCH_URL": demo.url,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r'"error": ?\{', done.stdout)
    for file in tmp_path.glob("*.png"):
        assert file.read_bytes().startswith(b"\x89PNG"), file
