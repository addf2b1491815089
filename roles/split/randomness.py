"""Random numbers that do not come from the request's generator.

A few schedulers and decoders draw from torch's global generator. Each request has its own state of
it, seeded like its generator and put in place while its pipeline runs: the same request gives the
same pixels again, whatever runs between its steps.
"""

import contextlib
from collections.abc import Iterator

import torch


class GlobalRandomness:
    """One request's state of the global generators of the CPU and of `device`."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._own = [torch.Generator("cpu").manual_seed(seed).get_state()]
        self._devices = [device] if device.type == "cuda" else []
        self._own += [torch.Generator(d).manual_seed(seed).get_state() for d in self._devices]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the global generators are this request's."""
        others = self._swap(self._own)
        try:
            yield
        finally:
            self._own = self._swap(others)

    def now(self) -> list[torch.Tensor]:
        """The global generators as they are at this moment: within the block of `in_place` the
        request's own."""
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._devices)]

    def set(self, states: list[torch.Tensor]) -> None:
        """Goes on from these states, within the block of `in_place`."""
        self._swap(states)

    def _swap(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
        before = self.now()
        torch.set_rng_state(states[0])
        for device, state in zip(self._devices, states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)
        return before
