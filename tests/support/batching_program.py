"""A denoiser whose forwards can be shared, for tests of ranks: `scripted_program` with a module.

`roles.rank --program tests.support.batching_program:load`. Latents begin at the seed and grow by
one with every forward. Parameters of a request beside those of `scripted_program`: `poison_at` (a
step: its latents become a bad value, which the model refuses, whoever shares the forward), branches
(so many calls of each step wait together; default 1).

The model's name is its memory: "room:4" has none for more than four requests in one forward.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from roles.samples import Sample
from roles.split.program import Call, Denoising, Program, TransformerCall
from tests.support.scripted_program import ScriptedDenoising, ScriptedProgram, _act


class Grower(torch.nn.Module):
    """Adds one to the latents `[samples, n]`. `sizes`: of all its forwards."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.sizes: list[int] = []

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(hidden_states))
        if len(hidden_states) > self.room:
            raise RuntimeError("scripted: out of memory")
        if hidden_states.isnan().any():
            raise ValueError("scripted: a bad value")
        return hidden_states + 1


class BatchingProgram(ScriptedProgram):
    def __init__(self, room: int) -> None:
        super().__init__()
        self.module = Grower(room)

    def denoise(self, call: Call, payload: Any) -> Denoising:
        denoising = BatchingDenoising(self.module, call, payload["embeds"], whole=False)
        denoising.go_on_from(payload)
        return denoising

    def generate(self, call: Call) -> Denoising:
        return BatchingDenoising(self.module, call, torch.zeros(8), whole=True)

    def decode(self, call: Call, payload: Any) -> list[Sample]:
        return super().decode(call, payload)


class BatchingDenoising(ScriptedDenoising):
    def __init__(self, module: Grower, call: Call, embeds: torch.Tensor, whole: bool) -> None:
        super().__init__(call, embeds, whole)
        self._module = module

    def _next(self) -> None:
        if self.done:
            self.pending = ()
            return
        _act(self._call, str(self.step + 1))
        latents = self._latents.reshape(1, -1)
        if self._call.inputs.params.get("poison_at") == str(self.step + 1):
            latents = latents * float("nan")
        one = TransformerCall(self._module, "transformer", (latents,), {})
        branches = int(self._call.inputs.params.get("branches", 1))
        self.pending = (one, *(replace(one) for _ in range(branches - 1)))

    def resume(self, outputs: Sequence[Any]) -> None:
        assert all(torch.equal(each, outputs[0]) for each in outputs)
        super().resume([outputs[0].reshape(-1)])


def load(model: str, roles: list[str], dtype: str, device: str) -> Program:
    return BatchingProgram(int(model.removeprefix("room:")))
