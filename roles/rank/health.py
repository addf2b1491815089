"""How a rank is: what it computed last, what it holds, and, when in doubt, a test."""

import time

import psutil
import torch

from transfer.actions import HealthReport

RECENT_S = 10.0  # who computed for a request since then needs no test
SIDE = 64  # of the matrices of the test; whole numbers, so that every device has the same result


class Health:
    """Kept by the worker's loop, which says when something was `computed`."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._computed_at: float | None = None

    def computed(self) -> None:
        self._computed_at = time.monotonic()

    def report(self, requests: int) -> HealthReport:
        """Raises what the device raises, or RuntimeError if it computes wrongly."""
        at = self._computed_at
        computed_s = None if at is None else time.monotonic() - at
        tested = computed_s is None or computed_s > RECENT_S
        if tested:
            self._test()
        used, total = self._memory()
        return HealthReport(
            device=str(self._device),
            computed_s=computed_s,
            tested=tested,
            requests=requests,
            host_bytes=psutil.Process().memory_info().rss,
            device_bytes=used,
            device_total_bytes=total,
        )

    def _test(self) -> None:
        """A device that has failed raises at whatever it is asked; one that is worn out may not."""
        rows = torch.arange(SIDE, dtype=torch.float32, device=self._device)
        found = torch.outer(rows, torch.ones_like(rows)) @ torch.ones_like(rows)
        wrong = int((found != rows * SIDE).sum().item())
        if wrong:
            raise RuntimeError(f"{self._device} computes wrongly: {wrong} of {SIDE} sums")

    def _memory(self) -> tuple[int | None, int | None]:
        if self._device.type != "cuda":
            return None, None
        free, total = torch.cuda.mem_get_info(self._device)
        return total - free, total
