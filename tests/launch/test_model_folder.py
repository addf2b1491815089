import json
from pathlib import Path

import pytest

from launch.errors import LaunchError
from launch.model import check_model


def test_a_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text(json.dumps({"_class_name": "X"}))
    monkeypatch.chdir(tmp_path)
    assert check_model("model") == str(tmp_path / "model")


def test_a_hub_id_stays_as_it_is() -> None:
    assert check_model("owner/name-1.0") == "owner/name-1.0"


@pytest.mark.parametrize("model", ["nowhere", "./a/b", "/no/such", "~/none", "a/b/c", "../no-such"])
def test_a_missing_folder_is_named(model: str) -> None:
    with pytest.raises(LaunchError, match=f"there is no model folder {model}"):
        check_model(model)


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"it has no model_index\.json"):
        check_model(str(tmp_path))


def test_a_checkpoint_keeps_the_name_of_its_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hubs' caches keep files under other names."""
    (tmp_path / "blob").touch()
    (tmp_path / "sd.safetensors").symlink_to(tmp_path / "blob")
    monkeypatch.chdir(tmp_path)
    assert check_model("sd.safetensors") == str(tmp_path / "sd.safetensors")
    with pytest.raises(LaunchError, match="blob is neither a folder nor a safetensors file"):
        check_model("blob")


def test_a_folder_of_a_repository_is_no_model() -> None:
    with pytest.raises(LaunchError, match="a model is a whole repository or a safetensors file"):
        check_model("owner/name@v1:unet")
    assert check_model("owner/name@v1:sd.safetensors") == "owner/name@v1:sd.safetensors"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_an_index_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(LaunchError, match=r"model_index\.json"):
        check_model(str(tmp_path))
