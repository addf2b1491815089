"""How the ranks of an instance divide their work among them: `--parallel`. Pure.

`guidance=2` divides the samples of a forward: branches of guidance, the batch of classic guidance,
requests that share it. `ulysses=2` and `ring=2` divide the tokens of each sample, `tensor=2` the
weights of each layer. They multiply: `guidance=2,ulysses=2` is for four ranks. `tiles=4` divides
what is decoded, among all four.
"""

import math
from dataclasses import dataclass

DENOISING = ("guidance", "ulysses", "ring", "tensor")
MODES = (*DENOISING, "tiles")
WRITTEN = "guidance[=N], ulysses[=N], ring[=N], tensor[=N], tiles[=N], joined by commas"


@dataclass(frozen=True)
class Parallel:
    """Into how many parts each is divided: 1 is not at all. The product of those that denoise is
    the number of ranks; `tiles` is that number or 1. Neighbours in rank divide weights or tokens,
    which they exchange most often."""

    guidance: int = 1
    ulysses: int = 1
    ring: int = 1
    tensor: int = 1
    tiles: int = 1

    @property
    def ranks(self) -> int:
        return self.guidance * self.tokens * self.tensor

    @property
    def tokens(self) -> int:
        """Ranks that divide the tokens of a sample."""
        return self.ring * self.ulysses

    @property
    def entwined(self) -> bool:
        """Whether ranks wait for each other in the middle of a forward."""
        return self.tokens * self.tensor > 1

    @property
    def context(self) -> str | None:
        """The modes that divide tokens or weights, as they are written; None: there is none of
        them. They change the pixels by rounding, always; `guidance` leaves a request that is to be
        exact whole."""
        return _written({name: getattr(self, name) for name in ("ulysses", "ring", "tensor")})

    @property
    def loads(self) -> bool:
        """Whether the model has to be loaded for it, and is refused then if it cannot."""
        return self.entwined or self.tiles > 1

    def __str__(self) -> str:
        return _written({name: getattr(self, name) for name in MODES}) or "guidance=1"


def divide(text: str | None, ranks: int) -> Parallel:
    """What `--parallel` says, for so many ranks; None is guidance, which every model can.

    One mode of those that denoise may stand without a number: it gets what the others leave.
    `tiles` has all ranks, so it needs none; with nothing beside it, guidance has them too. Raises
    ValueError with a sentence.
    """
    asked = _asked(text or "guidance")
    tiles = asked.pop("tiles", ranks) if "tiles" in asked else 1
    if tiles not in (1, None, ranks):
        raise ValueError(f"--parallel {text}: tiles={tiles} is for {tiles} ranks, not {ranks}")
    _check_together(text, asked)
    found = _multiplied(text, asked or {"guidance": None}, ranks)
    return Parallel(**found, tiles=ranks if tiles is None else tiles)


def of_roles(text: str | None, denoises: bool, decodes: bool) -> str | None:
    """What of it concerns roles that do so; None: nothing. Raises ValueError with a sentence."""
    if text is None or not (denoises or decodes):
        return None
    _asked(text)
    parts = [part.strip() for part in text.split(",")]
    tiles = [part for part in parts if part.partition("=")[0] == "tiles"]
    rest = [part for part in parts if part not in tiles]
    return ",".join(rest * denoises + tiles * decodes) or None


def _multiplied(text: str | None, asked: dict[str, int | None], ranks: int) -> dict[str, int]:
    given = math.prod(degree for degree in asked.values() if degree is not None)
    left = ranks // given if ranks % given == 0 else 0
    degrees = {mode: left if degree is None else degree for mode, degree in asked.items()}
    if math.prod(degrees.values()) != ranks:
        raise ValueError(
            f"--parallel {text} is for {given} ranks or a multiple, and --ranks is {ranks}"
            if None in asked.values()
            else f"--parallel {text} is for {given} ranks, and --ranks is {ranks}"
        )
    return degrees


def _check_together(text: str | None, asked: dict[str, int | None]) -> None:
    tokens = [mode for mode in ("ulysses", "ring") if asked.get(mode, 1) != 1]
    if tokens and asked.get("tensor", 1) != 1:
        raise ValueError(
            f"--parallel {text}: diffusers divides weights (tensor) or tokens "
            f"({' and '.join(tokens)}), not both; either goes with guidance"
        )


def _asked(text: str) -> dict[str, int | None]:
    asked: dict[str, int | None] = {}
    for part in text.split(","):
        mode, _, number = part.strip().partition("=")
        if mode not in MODES:
            raise ValueError(f"--parallel {text}: {mode!r} is no mode; write {WRITTEN}")
        if mode in asked:
            raise ValueError(f"--parallel {text} names {mode} twice")
        asked[mode] = _degree(text, mode, number) if "=" in part else None
    if sum(degree is None for mode, degree in asked.items() if mode != "tiles") > 1:
        raise ValueError(f"--parallel {text}: only one mode may stand without a number")
    return asked


def _degree(text: str, mode: str, number: str) -> int:
    if not number.strip().isdecimal() or int(number) < 1:
        raise ValueError(f"--parallel {text}: {number!r} is no number of ranks for {mode}")
    return int(number)


def _written(degrees: dict[str, int]) -> str | None:
    parts = [f"{name}={degree}" for name, degree in degrees.items() if degree > 1]
    return ",".join(parts) or None
