"""A model that does what the prompt says: python -m roles.rank --program …directed_program:load.

For clusters that are asked over HTTP. The prompt is JSON, `Directions` as text, or any other words,
which mean nothing in particular. The picture's red tells the seed and the steps that were taken, so
that a step too many or too few shows.
"""

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec

from roles.samples import Sample
from roles.split.program import Call, Denoising
from tests.support.scripted_program import ScriptedDenoising, ScriptedProgram, _samples
from transfer.messages import ModelInfo, Parameter

PARAMETERS = [Parameter("prompt", "str", True), Parameter("num_inference_steps", "int", False)]
INFO = ModelInfo("directed", "Directed", "d1", "image", PARAMETERS)


class Directions(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """`at`: where something happens: "encode", "begin", "1" (the first forward), …, "decode".

    What happens there, in this order: `book` gets a line "AT PID SECONDS"; `gate`: it waits until
    that file is there; `act`: kill | segfault | exit | hang | raise, only the first time if `once`
    (a file that is made then). Everywhere: a line in `book`, and `seconds` of work. SECONDS are
    those of the monotonic clock, which all processes of a host share.
    """

    at: str = ""
    gate: str = ""
    act: str = ""
    once: str = ""
    book: str = ""
    seconds: float = 0.0
    size: int = 8  # floats in the payload that the encoder makes
    then: "Directions | None" = None  # something that happens elsewhere, as well

    @property
    def prompt(self) -> str:
        return msgspec.json.encode(self).decode()


def load(model: str, roles: list[str], dtype: str, device: str) -> "DirectedProgram":
    return DirectedProgram()


class DirectedProgram(ScriptedProgram):
    info = INFO

    def encode(self, call: Call) -> Any:
        directions = _follow(call, "encode")
        directed = {**call.inputs.params, "size": directions.size}
        return super().encode(_with(call, directed))

    def denoise(self, call: Call, payload: Any) -> Denoising:
        denoising = DirectedDenoising(_with_steps(call), payload["embeds"], whole=False)
        denoising.go_on_from(payload)
        return denoising

    def decode(self, call: Call, payload: Any) -> list[Sample]:
        _follow(call, "decode")
        return _samples(call, payload["latents"])

    def generate(self, call: Call) -> Denoising:
        raise AssertionError("it is only for three roles")


class DirectedDenoising(ScriptedDenoising):
    def start(self) -> None:
        _follow(self._call, "begin")
        super().start()

    def preview(self) -> Any:
        _follow(self._call, "preview")
        return super().preview()

    def _forward(self, latents: Any) -> Any:
        _follow(self._call, str(self.step + 1))
        return super()._forward(latents)


def _with(call: Call, params: dict[str, Any]) -> Call:
    return msgspec.structs.replace(call, inputs=msgspec.structs.replace(call.inputs, params=params))


def _with_steps(call: Call) -> Call:
    steps = call.inputs.params.get("num_inference_steps", 3)
    return _with(call, {**call.inputs.params, "steps": steps})


def _follow(call: Call, place: str) -> Directions:
    try:
        directions = msgspec.json.decode(str(call.inputs.params["prompt"]), type=Directions)
    except msgspec.DecodeError:
        return Directions()
    if directions.book:
        with open(directions.book, "a", encoding="utf-8") as book:
            book.write(f"{place} {os.getpid()} {time.monotonic()}\n")
    time.sleep(directions.seconds)
    for each in filter(None, (directions, directions.then)):
        if each.at == place:
            _obey(each)
    return directions


def _obey(directions: Directions) -> None:
    while directions.gate and not Path(directions.gate).exists():
        time.sleep(0.002)
    if not directions.once or _first(directions.once):
        _act(directions.act)


def _first(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _act(what: str) -> None:
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "hang":
            while True:
                signal.pause()
        case "raise":
            raise RuntimeError("as directed")
