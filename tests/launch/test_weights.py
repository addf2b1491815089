from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from launch.weights import weights_bytes, whole_bytes


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """1,000 numbers in two components, stored as half, and a tokenizer."""
    for name, count in (("transformer", 900), ("vae", 100)):
        (tmp_path / name).mkdir()
        numbers = torch.zeros(count // 10, 10, dtype=torch.bfloat16)
        save_file({"weight": numbers}, tmp_path / name / "model.safetensors")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "vocab.json").write_text("{}")
    (tmp_path / "model_index.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(("dtype", "size"), [("auto", 4), ("float32", 4), ("bfloat16", 2)])
def test_numbers_count_as_they_are_loaded(model: Path, dtype: str, size: int) -> None:
    assert weights_bytes(str(model), dtype) == 1000 * size


def test_shards_add_up_and_variants_are_copies(model: Path) -> None:
    folder = model / "transformer"
    save_file({"more": torch.zeros(50)}, folder / "model-00002-of-00002.safetensors")
    save_file({"weight": torch.zeros(900)}, folder / "model.fp16.safetensors")
    assert weights_bytes(str(model), "auto") == 1050 * 4


def test_one_variant_alone_is_the_weights(model: Path) -> None:
    folder = model / "vae"
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    assert weights_bytes(str(model), "auto") == 1000 * 4


def test_other_formats_count_as_files(model: Path) -> None:
    (model / "text_encoder").mkdir()
    (model / "text_encoder" / "pytorch_model.bin").write_bytes(b"x" * 77)
    assert weights_bytes(str(model), "auto") == 4077


BAD = b'{"weight": {"shape": 5}}'


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, b"\x08" + bytes(7) + b"not json", len(BAD).to_bytes(8, "little") + BAD],
)
def test_what_cannot_be_read_is_for_the_ranks_to_say(model: Path, content: bytes) -> None:
    (model / "vae" / "model.safetensors").write_bytes(content)
    assert weights_bytes(str(model), "auto") == 900 * 4


def test_a_hub_id_is_not_known_yet() -> None:
    assert weights_bytes("owner/name", "auto") is None
    assert whole_bytes("owner/name", "auto", 1) is None


def test_an_instance_takes_its_slots_too(model: Path) -> None:
    without = whole_bytes(str(model), "auto", 0)
    with_slots = whole_bytes(str(model), "auto", 1 << 20)
    assert without is not None
    assert with_slots is not None
    assert with_slots - without == 3 << 20
    assert without > 4000


def test_components_from_elsewhere_count_in_the_place_of_its_own(
    model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "of another model" / "elsewhere"
    (other / "vae").mkdir(parents=True)
    save_file({"weight": torch.zeros(7)}, other / "vae" / "model.safetensors")
    file = other / "file.safetensors"
    save_file({"weight": torch.zeros(5)}, file)
    for place, count in [(other, 7), (f"{other}:vae", 7), (file, 5)]:
        assert weights_bytes(str(model), "auto", {"vae": str(place)}) == (900 + count) * 4
    assert weights_bytes(str(model), "auto", {"vae": "owner/vae"}) is None
    assert weights_bytes(str(file), "bfloat16") == 5 * 2
