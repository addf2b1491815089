"""Pictures, videos and sounds through real processes, asked for with OpenAI's own client."""

import base64
import io
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import openai
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from launch import Cluster
from tests.support.local_cluster import small_cluster, whole_cluster
from tests.support.pipelines import build

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (32, 32, 3), np.uint8))
MASK = Image.fromarray(RNG.integers(0, 2, (32, 32), np.uint8) * 255)


def client_of(cluster: Cluster) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="unused", max_retries=0)


def saved(picture: Image.Image) -> bytes:
    made = io.BytesIO()
    picture.save(made, "PNG")
    return made.getvalue()


def test_an_edit_has_the_plain_pipelines_pixels(tmp_path: Path) -> None:
    """T16: the picture crosses from the client to the encoder, and on, by no path."""
    model = build("sd15_inpaint", tmp_path / "model")
    params: dict[str, Any] = {"num_inference_steps": 4, "strength": 0.75}
    with small_cluster(model) as cluster, client_of(cluster) as client:
        reply = client.images.edit(
            image=saved(PICTURE),
            mask=saved(MASK),
            prompt="a red circle",
            extra_body={**params, "seed": 3, "exact": True},
        )
    assert reply.data is not None
    made = Image.open(io.BytesIO(base64.b64decode(reply.data[0].b64_json or "")))
    pipeline = DiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    plain = pipeline("a red circle", PICTURE, MASK, **params, generator=generator).images[0]
    assert np.array_equal(np.asarray(made), np.asarray(plain))


def test_a_video_with_its_sound(tmp_path: Path) -> None:
    model = build("ltx2", tmp_path / "model")
    with small_cluster(model, slot_bytes="4MiB") as cluster, client_of(cluster) as client:
        told = client.get("/models", cast_to=object)
        (page,) = told["data"]  # type: ignore[index]
        assert (page["modality"], page["fps"], page["sample_rate"]) == ("video", 24.0, 16_000)
        asked = {"num_frames": 5, "num_inference_steps": 2, "seed": 1, "fps": 25}
        video = client.videos.create_and_poll(
            prompt="a bell",
            size="32x32",  # type: ignore[arg-type]
            poll_interval_ms=100,
            extra_body={**asked, "negative_prompt": "blurry"},
        )
        assert (video.status, video.progress, video.size) == ("completed", 100, "32x32")
        content = client.videos.download_content(video.id).content
        thumbnail = client.videos.download_content(video.id, variant="thumbnail").content
        (file,) = client.get(f"/jobs/{video.id}", cast_to=object)["files"]  # type: ignore[index]
        assert client.videos.delete(video.id).deleted
        assert client.videos.list().data == []
    with av.open(io.BytesIO(content)) as container:
        assert len(list(container.decode(video=0))) == 5
        assert container.streams.video[0].average_rate == 25
        assert container.streams.audio[0].rate == 16_000
    assert Image.open(io.BytesIO(thumbnail)).size == (32, 32)
    assert (file["kind"], file["frames"], file["fps"], file["fps_from"], file["seed"]) == (
        "video",
        5,
        25.0,
        "request",
        1,
    )
    assert (file["sample_rate"], file["mime"]) == (16_000, "video/mp4")


def test_sounds_of_their_pipelines_rate(tmp_path: Path) -> None:
    model = build("stable_audio", tmp_path / "model")
    with whole_cluster(model) as cluster, client_of(cluster) as client:
        body = {"prompt": "a bell", "seconds": 2, "num_inference_steps": 2, "seed": 1}
        files = []
        for format in ("wav", "flac"):
            asked = {**body, "output_format": format}
            reply: Any = client.post("/audio/generations", cast_to=object, body=asked)
            files.append(base64.b64decode(reply["data"][0]["b64_json"]))
        given = RNG.integers(-9000, 9000, (16, 2)).astype("<i2")
        url = f"data:audio/wav;base64,{base64.b64encode(written(given)).decode()}"
        asked = {**body, "exact": True, "initial_audio_waveforms": url}
        reply = client.post("/audio/generations", cast_to=object, body=asked)
        changed = base64.b64decode(reply["data"][0]["b64_json"])
    assert changed == written(_plain_sound(model, given, body))
    assert changed != files[0]
    with wave.open(io.BytesIO(files[0])) as wav:
        assert wav.getframerate() == 8
        samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2")
        channels = wav.getnchannels()
    assert len(samples) == 2 * 8 * channels
    with av.open(io.BytesIO(files[1])) as container:
        heard = np.concatenate([f.to_ndarray().reshape(-1) for f in container.decode(audio=0)])
        assert container.streams.audio[0].rate == 8
    assert heard.tolist() == samples.tolist()


def _plain_sound(model: Path, given: "np.ndarray[Any, Any]", body: dict[str, Any]) -> Any:
    """`[samples, channels]` of 16 bits: what the plain pipeline makes of a sound of 8 Hz."""
    pipeline = DiffusionPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    (sound,) = pipeline(
        body["prompt"],
        audio_end_in_s=float(body["seconds"]),
        num_inference_steps=body["num_inference_steps"],
        initial_audio_waveforms=torch.from_numpy(given.T / np.float32(32768))[None],
        initial_audio_sampling_rate=8,
        generator=torch.Generator("cpu").manual_seed(body["seed"]),
    ).audios
    return np.round(np.clip(sound.numpy().T, -1, 1) * 32767).astype("<i2")


def written(samples: "np.ndarray[Any, Any]") -> bytes:
    """A WAV of 8 Hz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(samples.shape[1])
        wav.setsampwidth(2)
        wav.setframerate(8)
        wav.writeframes(np.ascontiguousarray(samples).tobytes())
    return file.getvalue()
