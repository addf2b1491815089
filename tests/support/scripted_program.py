"""A model that does what the request's parameters say, for tests of everything around a model.

`roles.rank --program tests.support.scripted_program:load`. It runs in the rank; nothing here is
imported by the tests themselves but the parameters' names.

Parameters of a request, all optional: prompt, steps (default 3), size (floats in the payload),
raise_at, bad_input_at, kill_at, exit_at (a stage: "encode", "decode", or "3": the third forward),
raise_words (what is raised says),
makes ("nothing", or "everything": a sample of each kind),
gate and gate_at (a path; that stage waits until the file is there), in_rank (only there).
A picture that comes with a request to the role monolithic is what comes out of it.
Models: "fine", "missing" (ModelError), "broken" (any other error), "crash" (the process ends),
"endless:PATH" (says that it loads, by that file, and never ends), "warm:PATH" (its warm-up waits
until the file is there), "cold" (its warm-up fails).
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from PIL import Image as Pillow

from roles.samples import Actions, Audio, Custom, Image, Sample, Video
from roles.split.program import (
    BadInput,
    Call,
    Checkpoint,
    Denoising,
    ModelError,
    NoPreview,
    Program,
    TransformerCall,
)
from transfer.actions import UpdateWeights, WeightsUpdated
from transfer.messages import ModelInfo, Speed

RANK = next((int(a.removeprefix("--rank=")) for a in sys.argv if a.startswith("--rank=")), 0)
INFO = ModelInfo("scripted", "ScriptedPipeline", "fingerprint", "image", [])


def load(
    model: str, roles: list[str], dtype: str, device: str, speed: Speed | None = None
) -> Program:
    if model == "missing":
        raise ModelError("there is no model at missing")
    if model == "broken":
        raise RuntimeError("the weights do not fit")
    if model == "crash":
        os._exit(3)
    if model.startswith("endless:"):
        Path(model.removeprefix("endless:")).touch()
        signal.pause()
    return ScriptedProgram(model, speed)


class ScriptedProgram:
    info = INFO
    device = torch.device("cpu")
    encodings: Any = None  # what a rank gives it
    adapters: Any = None  # it takes none
    sleeper: Any = None
    exchange: Any

    def __init__(self, model: str = "fine", speed: Speed | None = None) -> None:
        self._model = model
        self.exchange = NoWeights()
        if speed is not None:
            self.info = replace(INFO, speed=speed)

    def warm(self, ran: Callable[[int, int], None] | None = None) -> None:
        if self._model == "cold":
            raise ModelError("cold does not run with compile")
        if self._model.startswith("warm:"):
            if ran is not None:
                ran(1, 4)
            while not Path(self._model.removeprefix("warm:")).exists():
                time.sleep(0.002)

    def encode(self, call: Call) -> Any:
        _act(call, "encode")
        size = call.inputs.params.get("size", 8)
        return {"prompt": call.inputs.params.get("prompt"), "embeds": torch.zeros(size)}

    def denoise(self, call: Call, payload: Any) -> Denoising:
        assert payload["prompt"] == call.inputs.params.get("prompt")
        denoising = ScriptedDenoising(call, payload["embeds"], whole=False)
        denoising.go_on_from(payload)
        return denoising

    def decode(self, call: Call, payload: Any) -> list[Sample]:
        _act(call, "decode")
        return _samples(call, payload["latents"])

    def generate(self, call: Call) -> Denoising:
        return ScriptedDenoising(call, torch.zeros(8), whole=True)


class NoWeights:
    """Finds nothing that it could compute with, wherever it looks."""

    components: tuple[str, ...] = ()

    def update(self, action: UpdateWeights) -> WeightsUpdated:
        raise ModelError(f"{action.path}: cannot load transformer")


class ScriptedDenoising:
    """Latents begin at the seed, and grow by one with every forward."""

    def __init__(self, call: Call, embeds: torch.Tensor, whole: bool) -> None:
        self._call = call
        self._whole = whole
        self._latents = embeds + call.inputs.seed
        self.pending: tuple[TransformerCall, ...] = ()
        self.step = 0
        self.steps = int(call.inputs.params.get("steps", 3))
        self.checkpoint: Checkpoint | None = None
        self._marked = False
        self._embeds = embeds

    def go_on_from(self, payload: Any) -> None:
        self.step = payload.get("step", 0)
        self._latents = payload.get("latents", self._latents)

    def mark(self) -> None:
        self._marked = True

    @property
    def done(self) -> bool:
        return self.step == self.steps

    def start(self) -> None:
        _act(self._call, "begin")
        self._next()

    def resume(self, outputs: Sequence[Any]) -> None:
        (self._latents,) = outputs
        self.step += 1
        if self._marked and not self.done:
            self._marked = False
            state = {"step": self.step, "latents": self._latents, "embeds": self._embeds}
            state["prompt"] = self._call.inputs.params.get("prompt")
            self.checkpoint = Checkpoint(self.step, state)
        self._next()

    def preview(self) -> Any:
        _act(self._call, "preview")
        if not self.step:
            raise NoPreview("it has not taken a step yet")
        return _samples(self._call, self._latents) if self._whole else {"latents": self._latents}

    def cancel(self) -> None:
        self.pending = ()

    def result(self) -> Any:
        return _samples(self._call, self._latents) if self._whole else {"latents": self._latents}

    def _next(self) -> None:
        call = TransformerCall(self._forward, "transformer", (self._latents,), {})
        self.pending = () if self.done else (call,)

    def _forward(self, latents: torch.Tensor) -> torch.Tensor:
        _act(self._call, str(self.step + 1))
        return latents + 1


def _samples(call: Call, latents: torch.Tensor) -> list[Sample]:
    """A pixel's red is the latents' value: the seed, and one for each step."""
    picture = Pillow.new("RGB", (4, 4), (int(latents[0]), 0, 0))
    if call.media:
        picture = call.media["image"][0]
    sound = Audio(np.zeros((2, 1600), np.float32), 8000)
    match call.inputs.params.get("makes"):
        case None:
            return [Image(picture)]
        case "nothing":
            return []
        case "everything":
            film = Video([picture, picture], 10.0, fps_from="assumed", sound=sound)
            actions = Actions(np.full((3, 2), float(latents[0]), np.float32))
            return [Image(picture), film, sound, actions, Custom("text", "hello")]
    raise BadInput("makes: nothing or everything", "makes")


def _act(call: Call, stage: str) -> None:
    params = call.inputs.params
    if params.get("in_rank", RANK) != RANK:
        return
    if params.get("gate_at") == stage:
        while not Path(str(params["gate"])).exists():
            time.sleep(0.002)
    if params.get("raise_at") == stage:
        raise RuntimeError(params.get("raise_words") or f"scripted at {stage}")
    if params.get("bad_input_at") == stage:
        raise BadInput("the prompt is too long", "prompt")
    if params.get("kill_at") == stage:
        os.kill(os.getpid(), signal.SIGKILL)
    if params.get("exit_at") == stage:
        os._exit(7)
