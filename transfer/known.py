"""The few classes of other packages whose instances may cross, besides tensors and output objects.

To let another class cross, add its line to `KINDS`. The name on the wire is only looked up here;
the class behind it is fixed by this file, never by what arrived.
"""

import importlib
from typing import Any, NamedTuple

from transfer.errors import PayloadError


class Kind(NamedTuple):
    """Where the class lives, and the attributes that, given to its constructor in this order, make
    an equal instance (everything else in it is computed from them)."""

    module: str
    name: str
    attributes: tuple[str, ...]


_VAE = "diffusers.models.autoencoders"

# what the VAEs' encode methods return
KINDS: dict[str, Kind] = {
    "gaussian": Kind(
        f"{_VAE}.vae", "DiagonalGaussianDistribution", ("parameters", "deterministic")
    ),
    "identity": Kind(f"{_VAE}.vae", "IdentityDistribution", ("parameters",)),
    "oobleck": Kind(
        f"{_VAE}.autoencoder_oobleck",
        "OobleckDiagonalGaussianDistribution",
        ("parameters", "deterministic"),
    ),
    "minimax_h3_audio": Kind(
        f"{_VAE}.autoencoder_kl_minimax_h3_audio",
        "MiniMaxH3AudioDiagonalGaussianDistribution",
        ("mean", "logs"),
    ),
}

_BY_CLASS = {(kind.module, kind.name): name for name, kind in KINDS.items()}


def kind_of(value: object) -> str | None:
    """The name of the value's class on the wire, or None if it may not cross."""
    return _BY_CLASS.get((type(value).__module__, type(value).__name__))


def attributes(kind: str, value: object) -> list[Any]:
    return [getattr(value, name) for name in KINDS[kind].attributes]


def build(kind: str, values: list[Any]) -> Any:
    """An instance from its attributes. Raises `PayloadError` if the kind is not in the table."""
    known = KINDS.get(kind)
    if known is None or len(values) != len(known.attributes):
        raise PayloadError(f"the kind {kind!r} with {len(values)} values is not known here")
    return getattr(importlib.import_module(known.module), known.name)(*values)
