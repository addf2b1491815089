"""Models of a hub: one commit for all roles, own files for each, one line for every error."""

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from roles.origins import Origins
from roles.split.files.fingerprint import fingerprint
from roles.split.files.folder import find
from roles.split.loading import load
from roles.split.program import ModelError
from roles.split.survey import survey
from tests.support.fake_hub import FakeHub
from tests.support.pipelines import PARAMS
from tests.support.splitting import arrays, call, plain, same, through_roles

ID = "someone/pictures"
OWN = {
    "encoder": {"text_encoder/model.safetensors"},
    "denoiser": {"unet/diffusion_pytorch_model.safetensors"},
    "decoder": {"vae/diffusion_pytorch_model.safetensors"},
}


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[FakeHub]:
    with FakeHub() as hub, hub.asked_by(monkeypatch, tmp_path / "cache"):
        yield hub


@pytest.fixture
def pushed(folder, tmp_path):
    """A copy to push, with weights in two precisions, and with what is of no component."""
    copy = shutil.copytree(folder("sd15"), tmp_path / "pushed")
    for path in list(copy.glob("*/*.safetensors")):
        half = {name: value.half() for name, value in load_file(path).items()}
        save_file(half, path.with_name(f"{path.stem}.fp16.safetensors"), {"format": "pt"})
    (copy / "notes").mkdir()
    (copy / "notes" / "names.txt").write_text("of no component")
    (copy / "whole.safetensors").write_bytes(b"of no component either")
    return copy


def weights(hub: FakeHub) -> set[str]:
    return {name for name in hub.given if name.endswith(".safetensors")}


@pytest.mark.parametrize("role", list(OWN))
def test_a_role_fetches_its_own_weights_and_no_others(role, hub, pushed):
    commit = hub.push(ID, pushed)
    info = load(ID, [role]).info
    assert weights(hub) == OWN[role]
    assert "tokenizer/tokenizer.json" in hub.given
    assert not {"notes/names.txt", "whole.safetensors"} & set(hub.given)
    assert len(hub.given) == len(set(hub.given))
    assert (info.name, info.revision) == (ID, commit)


def test_the_pixels_are_those_of_the_commit(hub, pushed, folder):
    first = hub.push(ID, folder("sd15"))
    hub.push(ID, shutil.copytree(folder("sd15_ancestral"), pushed / "later"))
    roles = [load(f"{ID}@{first}", [role], "float32") for role in OWN]
    samples = through_roles(*roles, call(PARAMS["sd15"]))
    assert same(arrays(samples), plain(folder("sd15"), PARAMS["sd15"], dtype="float32"))


def test_branches_tags_and_commits(hub, folder):
    first = hub.push(ID, folder("sd15"), "v1")
    second = hub.push(ID, folder("sd15_ancestral"), "refs/pr/2")
    assert find(f"{ID}@v1").hub.commit == first
    assert find(f"{ID}@refs/pr/2").hub.commit == second
    assert find(f"{ID}@{first}").index["scheduler"] != find(f"{ID}@{second}").index["scheduler"]
    assert fingerprint(find(f"{ID}@v1")) == fingerprint(find(f"{ID}@{first}"))
    assert fingerprint(find(f"{ID}@v1")) != fingerprint(find(f"{ID}@{second}"))


def test_the_cache_is_a_folder_with_the_same_fingerprint(hub, folder):
    hub.push(ID, folder("sd15"))
    found = find(ID)
    assert fingerprint(find(found.path)) == fingerprint(found)


def test_what_is_in_the_cache_needs_no_network(hub, folder, monkeypatch):
    commit = hub.push(ID, folder("sd15"))
    load(ID, ["decoder"])
    asked = hub.questions
    load(f"{ID}@{commit}", ["decoder"])  # a commit is nothing to ask about
    assert hub.questions == asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load(ID, ["decoder"]).info.revision == commit
    with pytest.raises(ModelError, match=r"not asked \(HF_HUB_OFFLINE\): not all of .* in the"):
        load(ID, ["denoiser"])
    assert hub.questions == asked


def test_a_hub_that_is_away(hub, folder, monkeypatch):
    commit = hub.push(ID, folder("sd15"))
    load(ID, ["decoder"])
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert load(ID, ["decoder"]).info.revision == commit
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9 cannot be reached, and not all of"):
        find("someone/other")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("someone/nothing", "there is no folder someone/nothing, and the model hub has no model"),
        (f"{ID}@v9", f"the model hub's {ID} has no branch, tag or commit v9"),
        (f"{ID}@{'0' * 40}", f"{ID} has no branch, tag or commit 0000"),
        ("someone/gated", "someone/gated is gated: ask for access at http"),
        (f"{ID}:unet", "a model is a whole repository"),
        (f"{ID}:../unet", "after the colon stands the name of a folder"),
        ("a/b/c", "there is no folder a/b/c"),
    ],
)
def test_what_a_hub_does_not_give(model, message, hub, folder):
    hub.push(ID, folder("sd15"))
    hub.push("someone/gated", folder("sd15"))
    hub.gated.add("someone/gated")
    with pytest.raises(ModelError, match=message) as caught:
        find(model)
    assert "\n" not in str(caught.value)


def test_folders_have_no_revisions(folder, monkeypatch):
    path = folder("sd15")
    monkeypatch.chdir(path.parent.parent)
    there = f"{path.parent.name}/{path.name}"
    assert find(there).index["_class_name"] == "StableDiffusionPipeline"
    with pytest.raises(ModelError, match=r"is a folder on this disk, and has no revision main"):
        find(f"{there}@main")


@pytest.mark.parametrize("place", ["hub", "folder"])
def test_a_variant(place, hub, pushed):
    hub.push(ID, pushed)
    (pushed / "vae" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    model = ID if place == "hub" else pushed
    fp16 = Origins(variant="fp16")
    roles = [load(model, [role], "float32", origins=fp16) for role in OWN]
    if place == "hub":
        assert weights(hub) == {
            "text_encoder/model.fp16.safetensors",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
        }
    samples = through_roles(*roles, call(PARAMS["sd15"]))
    wanted = plain(pushed, PARAMS["sd15"], dtype="float32", variant="fp16")
    assert same(arrays(samples), wanted)
    assert not same(wanted, plain(pushed, PARAMS["sd15"], dtype="float32"))
    assert len({role.info.fingerprint for role in roles}) == 1
    assert roles[0].info.fingerprint != fingerprint(find(model))
    with pytest.raises(ModelError, match=r"no weights of the variant fp61; it has fp16"):
        find(model, Origins(variant="fp61"))


def test_a_variant_is_nothing_to_a_folder_without(folder):
    with pytest.raises(ModelError, match=r"no weights of the variant fp16, nor any other"):
        find(folder("sd15"), Origins(variant="fp16"))


def test_only_the_header_is_read_for_a_dtype(hub, folder, tmp_path):
    """Older text encoders say it nowhere but in their weights, which only encoders need."""
    path = shutil.copytree(folder("sd15"), tmp_path / "old")
    config = path / "text_encoder" / "config.json"
    lines = config.read_text().splitlines()
    config.write_text("\n".join(line for line in lines if '"dtype"' not in line))
    weights_file = path / "text_encoder" / "model.safetensors"
    half = {name: value.bfloat16() for name, value in load_file(weights_file).items()}
    save_file(half | {"rest": half.popitem()[1].new_zeros(1 << 20)}, weights_file, {"format": "pt"})
    hub.push(ID, path)
    program = load(ID, ["denoiser"])
    assert weights(hub) == OWN["denoiser"]
    assert str(program.pipeline.components["text_encoder"].dtype) == "torch.bfloat16"
    assert 0 < hub.peeked < weights_file.stat().st_size


def test_what_a_model_supports_is_told_without_its_weights(hub, folder):
    commit = hub.push(ID, folder("sd15"))
    found = survey(ID)
    assert weights(hub) == set()
    assert found.info.revision == commit
    assert found.crossings[0].nbytes


def test_asking_a_hub_takes_no_torch():
    code = "import roles.split.files.folder, roles.split.files.hub, huggingface_hub, sys; "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
