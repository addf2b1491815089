"""A rank without torch that serves `monolithic`: python -m tests.support.plain_rank.

It is up in a tenth of the time of `roles.rank`, and answers the same calls. A picture's red tells
the seed, the steps that were taken, and whether the weights are the model's own. `--model PATH`: a
folder in which a test writes what goes wrong: a file AT.RANK, where AT is a method, "begin", "step"
or "collect", and its text one of those below. AT.struck has the monotonic time at which it last
did.

raise   it raises
second  it raises from the next time on
hang    it goes on when the file is gone; AT.hangs is there from when it does
memory  it asks for more memory than there is
exit    the process exits with code 5; the file is gone then
kill    it dies of SIGKILL; the file is gone then
stubborn  from then on it ignores SIGTERM, and that it is to shut down
nothing   of "collect": it has made no file
differs   of "load_lora": the file is another one here
"""

import argparse
import io
import os
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import psutil
from PIL import Image

from roles.calls import (
    Act,
    Begin,
    Call,
    Collect,
    Drop,
    Frames,
    Key,
    Load,
    Loaded,
    MediaFile,
    Outcome,
    Outcomes,
    Reply,
    Run,
    Shutdown,
    Value,
    call_decoder,
    frame,
)
from roles.lifeline import tie_to
from roles.rank.arguments import arguments
from transfer import actions
from transfer.made import ImageMade
from transfer.messages import Inputs, ModelInfo, Parameter
from transfer.results import RankError

PARAMETERS = [Parameter("prompt", "str", True), Parameter("num_inference_steps", "int", False)]
PART = "net"
OTHER = 100  # what other weights than the model's own add to a picture's red
PARTS = ["transformer"]
INFO = ModelInfo("plain", "PlainPipeline", "p1", "image", PARAMETERS)


@dataclass
class Live:
    inputs: Inputs
    step: int = 0

    @property
    def steps(self) -> int:
        steps = self.inputs.params.get("num_inference_steps", 3)
        assert isinstance(steps, int)
        return steps


class PlainRank:
    def __init__(self, options: argparse.Namespace) -> None:
        self.rank = options.rank
        self.channel = socket.socket(fileno=options.fd)
        self.folder = Path()
        self.live: dict[Key, Live] = {}
        self.computed_at: float | None = None
        self.loras: dict[str, actions.LoraFile] = {}
        self.level = 0  # at which it sleeps
        self.digest = ""  # of its weights
        self.recording = False
        self.stubborn = False

    def serve(self) -> None:
        frames = Frames()
        while data := self.channel.recv(1 << 16):
            for body in frames.feed(data):
                call = call_decoder.decode(body)
                if isinstance(call, Shutdown):
                    if self.stubborn:
                        continue
                    return
                self.channel.sendall(frame(self.answer(call)))  # type: ignore[arg-type]

    def answer(self, call: Call) -> Reply:
        try:
            value, error = self.do(call), None
        except Exception as reason:
            text = "".join(traceback.format_exception(reason))
            value, error = None, RankError("raised", type(reason).__name__, str(reason), text)
        return Reply(call.call, error is None, value, error, 0.001)

    def do(self, call: Call) -> Value:
        match call:
            case Load(model=model):
                self.folder = Path(model)
                return Loaded(INFO, [PART])
            case Act(action):
                differs = self.misbehave(actions.method_of(action)) == "differs"
                return self.act(action, f" of rank {self.rank}" * differs)
            case Begin(request, attempt, inputs=inputs):
                assert not self.level, "it sleeps"
                self.misbehave("begin")
                self.live[request, attempt] = Live(inputs)
                return Outcomes([self.outcome((request, attempt))])
            case Run(groups=groups):
                return Outcomes([self.step(key) for group in groups for key in group])
            case Collect(request, attempt):
                return Outcomes([self.collect((request, attempt))])
            case Drop(request, attempt):
                self.live.pop((request, attempt), None)
        return None

    def act(self, action: actions.Action, mark: str) -> actions.Told:
        match action:
            case actions.Health():
                at, memory = self.computed_at, psutil.Process().memory_info().rss
                ago = None if at is None else time.monotonic() - at
                return actions.HealthReport("cpu", ago, ago is None, len(self.live), memory)
            case actions.LoadLora(name, path):
                self.loras[name] = actions.LoraFile(name, path, f"of {path}{mark}", 1, PARTS)
                return actions.LoraLoaded(self.loras[name])
            case actions.UnloadLora(name):
                return actions.LoraUnloaded(name, self.loras.pop(name, None) is not None)
            case actions.ListLoras():
                return actions.Loras(list(self.loras.values()))
            case actions.Sleep(level):
                fresh, self.level = not self.level, level
                return actions.Slept(level, fresh, 0, 0)
            case actions.Wake():
                before, self.level = self.level, 0
                return actions.Woken(before, 0)
            case actions.UpdateWeights(path):
                return self.put(actions.Weights(PART, path, f"of {path}{mark}"))
            case actions.PutWeights(weights=(weights,)):
                return self.put(weights)
            case actions.Profile(what):
                if self.recording == (what == "start"):
                    raise ValueError(f"{what} of what is {self.recording=}")
                self.recording = not self.recording
                return actions.Profiled(self.recording, f"trace.{self.rank}", 1.0, [])
        raise AssertionError(action)

    def put(self, weights: actions.Weights) -> actions.WeightsUpdated:
        assert not self.level, "it sleeps"
        fresh, self.digest = self.digest != weights.digest, weights.digest
        file = actions.WeightsFile(PART, weights.path, weights.digest, 1)
        return actions.WeightsUpdated([file], fresh)

    def step(self, key: Key) -> Outcome:
        self.misbehave("step")
        for lora in self.live[key].inputs.loras:
            assert lora.name in self.loras, f"{lora.name} is not loaded"
        self.live[key].step += 1
        self.computed_at = time.monotonic()
        return self.outcome(key)

    def outcome(self, key: Key) -> Outcome:
        live = self.live[key]
        done = live.step == live.steps
        return Outcome(*key, done=done, step=live.step, steps=live.steps)

    def collect(self, key: Key) -> Outcome:
        """Only the first rank makes files."""
        live, nothing = self.live[key], self.misbehave("collect") == "nothing"
        red = live.inputs.seed + live.step + (OTHER if self.digest else 0)
        media = [] if self.rank or nothing else [picture(red)]
        return Outcome(*key, done=True, media=media)

    def misbehave(self, at: str) -> str:
        """As the file says, if there is one."""
        path = self.folder / f"{at}.{self.rank}"
        what = path.read_text() if path.exists() else ""
        if what == "second":
            path.write_text("raise")
        if what:
            path.with_suffix(".struck").write_text(str(time.monotonic()))
        if what == "raise":
            raise ValueError(f"as {path.name} says")
        if what == "memory":
            bytearray(1 << 60)
        if what == "stubborn":
            self.stubborn = True
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if what in ("exit", "kill"):
            path.unlink()
            os._exit(5) if what == "exit" else os.kill(os.getpid(), signal.SIGKILL)
        if what == "hang":
            path.with_suffix(".hangs").touch()
        while what == "hang" and path.exists():
            time.sleep(0.002)
        return what


def picture(red: int) -> MediaFile:
    """A finished file without a name, as `MediaFile` has it."""
    png = io.BytesIO()
    Image.new("RGB", (4, 4), (red, 0, 0)).save(png, "PNG")
    fd = os.memfd_create("picture")
    os.write(fd, png.getvalue())
    return MediaFile(fd, ImageMade(4, 4), "image/png", len(png.getvalue()))


if __name__ == "__main__":
    OPTIONS = arguments(sys.argv[1:])
    tie_to(OPTIONS.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    PlainRank(OPTIONS).serve()
