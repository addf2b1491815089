"""What has to be the same on all hosts of an instance, as far as it shows without torch."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from roles.nodes.messages import Join
from roles.options import RoleOptions
from roles.split.files.fingerprint import fingerprint
from roles.split.files.folder import find
from roles.split.program import ModelError
from transfer.messages import Role

COMPUTES = ("torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Facts:
    """Of one host. `fingerprint`: of the model's files; None: they are no folder on this disk, and
    the ranks will tell when they have loaded it."""

    nodes: int
    roles: tuple[Role, ...]
    fingerprint: str | None
    software: dict[str, str]

    @classmethod
    def of(cls, options: RoleOptions) -> "Facts":
        """Reads the model's files, for which a slow disk may take seconds."""
        return cls(options.nnodes, options.roles, _fingerprint(options), _software())

    def difference(self, join: Join) -> str | None:
        """Why ranks here and there could not compute together; None: nothing speaks against it."""
        if join.nodes != self.nodes:
            return f"it was started with --nnodes {join.nodes}, the leader with {self.nodes}"
        if tuple(join.roles) != self.roles:
            theirs, ours = ",".join(join.roles), ",".join(self.roles)
            return f"it was started with --disagg-role {theirs}, the leader with {ours}"
        for name in sorted({*self.software, *join.software}):
            there, here = join.software.get(name), self.software.get(name)
            if there != here:
                return (
                    f"it has {name} {there}, the leader has {here}: install the same on all hosts"
                )
        if None not in (join.fingerprint, self.fingerprint) and (
            join.fingerprint != self.fingerprint
        ):
            return "the files of its --model are not those of the leader's"
        return None


def _fingerprint(options: RoleOptions) -> str | None:
    if not Path(options.model).expanduser().is_dir():
        return None
    try:
        return fingerprint(find(options.model, options.origins))
    except (ModelError, OSError):  # which the ranks will say better
        return None


def _software() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in COMPUTES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
