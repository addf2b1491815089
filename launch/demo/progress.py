"""Prints how training goes: one line per `every` steps, with the mean loss since the last."""

import time


class Progress:
    """Collects losses and prints `stage step/steps loss rate`."""

    def __init__(self, every: int = 100) -> None:
        self.every = every
        self.losses: list[float] = []
        self.since = time.monotonic()

    def note(self, stage: str, step: int, steps: int, loss: float) -> None:
        """Records the loss of a step (counted from 1)."""
        self.losses.append(loss)
        if step % self.every and step != steps:
            return
        seconds = time.monotonic() - self.since
        mean, rate = sum(self.losses) / len(self.losses), len(self.losses) / seconds
        print(f"{stage} {step}/{steps}  loss {mean:.4f}  {rate:.2f} steps/s", flush=True)
        self.losses.clear()
        self.since = time.monotonic()
