"""How long to wait before the next try. Pure."""

from dataclasses import dataclass


@dataclass
class Backoff:
    """`first_s`, twice that, … up to `longest_s`; from the beginning again after `reset`."""

    first_s: float
    longest_s: float
    failures: int = 0

    def next(self) -> float:
        """Seconds to wait now."""
        self.failures += 1
        return min(self.longest_s, self.first_s * 2.0 ** (self.failures - 1))

    def reset(self) -> None:
        self.failures = 0
