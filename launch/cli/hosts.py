"""`--ranks`, `--nnodes`, `--node-rank`, `--rendezvous`: where the ranks of an instance are."""

from dataclasses import dataclass
from typing import Any

import click

from transfer.messages import DENOISES


@dataclass(frozen=True)
class Hosts:
    """As `roles.options.RoleOptions` has it."""

    ranks: int
    nnodes: int
    node_rank: int
    rendezvous: str | None

    @property
    def ranks_here(self) -> int:
        return self.ranks // self.nnodes


def hosts(roles: tuple[str, ...], flags: dict[str, Any]) -> Hosts:
    """Checked here, where the mistake is. A file that several roles share may say it for those that
    denoise. Raises click.UsageError."""
    nnodes, node = flags["nnodes"], flags["node_rank"]
    if not DENOISES & set(roles) or nnodes == 1:
        if node > 0 and DENOISES & set(roles):
            raise click.UsageError(f"--node-rank {node} is one of --nnodes, which is 1")
        return Hosts(flags["ranks"] or 1, 1, 0, None)
    ranks, rendezvous = flags["ranks"] or nnodes, flags["rendezvous"]
    if rendezvous is None or rendezvous.port == 0:
        raise click.UsageError(
            f"--nnodes {nnodes} needs --rendezvous HOST:PORT, an address of node 0 and a port"
        )
    if node >= nnodes:
        raise click.UsageError(f"--node-rank {node}: --nnodes {nnodes} are 0 to {nnodes - 1}")
    if ranks % nnodes:
        raise click.UsageError(f"--ranks {ranks} cannot be divided among --nnodes {nnodes}")
    return Hosts(ranks, nnodes, node, str(rendezvous))
