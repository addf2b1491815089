"""The words that messages share: roles, classes of requests, states."""

from typing import Literal

Role = Literal["encoder", "denoiser", "decoder", "monolithic"]
ROLES: tuple[Role, ...] = ("encoder", "denoiser", "decoder", "monolithic")
Shelf = Role | Literal["checkpoint"]
"""What is kept in an outbox: the payload that a role made, or a checkpoint of its work."""
SPLIT_ROUTE: tuple[Role, ...] = ("encoder", "denoiser", "decoder")
DENOISES: frozenset[Role] = frozenset({"denoiser", "monolithic"})  # runs the transformer
DECODES: frozenset[Role] = frozenset({"decoder", "monolithic"})  # runs the VAE's decoder

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

Scalar = None | bool | int | float | str
Params = dict[str, Scalar | list[Scalar | list[Scalar]]]

InstanceState = Literal[
    "starting",
    "warming",
    "ready",
    "draining",
    "sleeping",
    "divergent",
    "closing",
    "closed",
    "failed",
]
RankState = Literal["starting", "ready", "sleeping", "dead"]

MediaKind = Literal["picture", "film", "sound"]
