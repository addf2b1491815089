"""How the ranks of an instance divide a forward among them: `--parallel`. Pure.

`guidance=2` divides its samples: branches of guidance, the batch of classic guidance, requests that
share it. `ulysses=2` and `ring=2` divide the tokens of each sample. They multiply:
`guidance=2,ulysses=2` is for four ranks.
"""

import math
from dataclasses import dataclass

MODES = ("guidance", "ulysses", "ring")
WRITTEN = "guidance[=N], ulysses[=N], ring[=N], joined by commas"


@dataclass(frozen=True)
class Parallel:
    """Into how many parts each is divided: 1 is not at all. Their product is the number of ranks.
    Neighbours in rank divide tokens, which they exchange most often."""

    guidance: int = 1
    ulysses: int = 1
    ring: int = 1

    @property
    def ranks(self) -> int:
        return self.guidance * self.tokens

    @property
    def tokens(self) -> int:
        """Ranks that divide the tokens of a sample."""
        return self.ring * self.ulysses

    @property
    def context(self) -> str | None:
        """The modes that divide tokens, as they are written; None: there is none of them. They
        change the pixels by rounding, always; `guidance` leaves a request that is to be exact
        whole."""
        named = {"ulysses": self.ulysses, "ring": self.ring}
        return ",".join(f"{name}={degree}" for name, degree in named.items() if degree > 1) or None

    def __str__(self) -> str:
        guidance = f"guidance={self.guidance}" if self.guidance > 1 else None
        return ",".join(filter(None, (guidance, self.context))) or "guidance=1"


def divide(text: str | None, ranks: int) -> Parallel:
    """What `--parallel` says, for so many ranks; None is guidance, which every model can.

    One mode may stand without a number: it gets what the others leave. Raises ValueError with a
    sentence.
    """
    asked = _asked(text or "guidance")
    given = math.prod(degree for degree in asked.values() if degree is not None)
    left = ranks // given if ranks % given == 0 else 0
    degrees = {mode: left if degree is None else degree for mode, degree in asked.items()}
    found = Parallel(**degrees)
    if found.ranks != ranks:
        raise ValueError(
            f"--parallel {text} is for {given} ranks or a multiple, and --ranks is {ranks}"
            if None in asked.values()
            else f"--parallel {text} is for {given} ranks, and --ranks is {ranks}"
        )
    return found


def _asked(text: str) -> dict[str, int | None]:
    asked: dict[str, int | None] = {}
    for part in text.split(","):
        mode, _, number = part.strip().partition("=")
        if mode not in MODES:
            raise ValueError(f"--parallel {text}: {mode!r} is no mode; write {WRITTEN}")
        if mode in asked:
            raise ValueError(f"--parallel {text} names {mode} twice")
        asked[mode] = _degree(text, mode, number) if "=" in part else None
    if sum(degree is None for degree in asked.values()) > 1:
        raise ValueError(f"--parallel {text}: only one mode may stand without a number")
    return asked


def _degree(text: str, mode: str, number: str) -> int:
    if not number.strip().isdecimal() or int(number) < 1:
        raise ValueError(f"--parallel {text}: {number!r} is no number of ranks for {mode}")
    return int(number)
