"""Which instances a machine runs, on which device and with how many threads. Pure.

Nothing asked for, no CUDA device: instances with all three roles in one process, one for each core
(`MOST_WHOLE` at most), as many as the memory holds. Requests differ from one another, so cores that
each work on their own requests wait for nobody, while threads that share a forward wait for each
other at every layer; and a process with all roles is never idle while there is any work.

Nothing asked for, CUDA devices: one denoiser on each, an encoder on the first and a decoder on the
last: both compute little, and what they compute overlaps with the denoisers' steps.

As soon as one count is given, it is a split (or, with `all_in_one` or `monolithic`, none), and what
is left out becomes

- one encoder and one decoder: both are idle while the denoiser works;
- one denoiser on each CUDA device; without any, one for every 8 cores, at least 1 and at most 4.

Where whatever denoises has several ranks, each takes so many devices, or memory so many times, and
there are so many times fewer.

Threads: the cores divided among all ranks of the machine, at least 1. All ranks get the same
number, because pictures are bit-identical only at equal numbers of threads, and because ranks
that share cores slow each other down far more than their share. Where the number was not asked
for, a rank also uses the cores of those that have nothing to do (`roles.cores`), but for requests
that are to be exact.

Requests at a time: for a small model on cores that were left to us, twice as many as by default.
There a forward of eight costs each request three quarters of what one of four does; where memory
is short, nothing but the end of the process would tell that eight were too many.

docs/placement.md has the measurements behind this.
"""

from dataclasses import dataclass

from transfer.messages import DENOISES

CORES_PER_DENOISER = 8
MOST_DENOISERS = 4
MOST_WHOLE = 8
MEMORY_SHARE = 0.8  # of what is free, for all instances together
SMALL = 4 << 30  # bytes of one instance; a forward of eight requests then fits beside it
BATCH_OF_SMALL = 8

ALL_ROLES = "encoder,denoiser,decoder"


@dataclass(frozen=True)
class Machine:
    """What there is to share: cores that this process may use, CUDA devices that torch sees, and
    bytes of memory that are free (None: nobody looked)."""

    cores: int
    cuda_devices: int = 0
    memory: int | None = None


@dataclass(frozen=True)
class Wish:
    """What the user asked for; None where it is left to the machine."""

    encoders: int | None = None
    denoisers: int | None = None
    decoders: int | None = None
    monolithic: int | None = None
    device: str | None = None
    threads: int | None = None
    all_in_one: int | None = None
    ranks: int = 1

    @property
    def counted(self) -> bool:
        """Whether any count is given."""
        counts = (self.encoders, self.denoisers, self.decoders, self.monolithic, self.all_in_one)
        return any(count is not None for count in counts)


@dataclass(frozen=True)
class Member:
    """One instance to start. `role` is what --disagg-role takes: a role, or several by commas.
    `device`: of its first rank."""

    role: str
    name: str
    device: str
    threads: int
    ranks: int = 1


@dataclass(frozen=True)
class Plan:
    """`why`: what decided, where the machine did. `lends`: instances may use the cores of others
    while those have nothing to do. `max_batch`: requests that a denoiser takes at a time; None: as
    many as anywhere."""

    members: tuple[Member, ...]
    machine: Machine
    why: str = ""
    lends: bool = False
    max_batch: int | None = None

    def of(self, role: str) -> list[Member]:
        """The members that serve a role, alone or among others."""
        return [member for member in self.members if role in member.role.split(",")]

    @property
    def complete(self) -> bool:
        """Whether it can serve without instances from elsewhere."""
        split = all(self.of(role) for role in ("encoder", "denoiser", "decoder"))
        return split or bool(self.of("monolithic"))

    def __str__(self) -> str:
        counts: dict[str, int] = {}
        for member in self.members:
            counts[member.role] = counts.get(member.role, 0) + 1
        told = ", ".join(_count(count, role) for role, count in counts.items())
        devices = sorted({member.device for member in self.members})
        most = max(member.ranks for member in self.members)
        told += f", with {most} ranks where they denoise," if most > 1 else ""
        threads = _plural(self.members[0].threads, "thread") + " each"
        if self.lends:
            threads += " and those of idle ones"
        why = f"; {self.why}" if self.why else ""
        cores = _plural(self.machine.cores, "core")
        return f"{told} on {', '.join(devices)}, {threads} ({cores}){why}"


def plan(machine: Machine, wish: Wish, needs: int | None = None) -> Plan:
    """The members of a cluster on one machine, encoders first. ValueError: there are none.

    `needs`: bytes of memory that an instance with all roles takes; None if nobody knows.
    """
    counts, why = _counts(machine, wish, needs)
    total = sum(counts.values())
    if total == 0:
        raise ValueError("there is nothing to start: every count is 0")
    ranks = {role: wish.ranks if _denoises(role) else 1 for role in counts}
    _check_devices(machine, wish, {role for role, count in counts.items() if count})
    total = sum(count * ranks[role] for role, count in counts.items())
    threads = wish.threads or max(1, machine.cores // total)
    members = tuple(
        Member(
            role,
            f"{_name(role)}-{number}",
            _device(machine, wish, role, number),
            threads,
            ranks[role],
        )
        for role, count in counts.items()
        for number in range(count)
    )
    on_cpu = any(member.device == "cpu" for member in members)
    lends = wish.threads is None and on_cpu and threads < machine.cores
    small = bool(why) and needs is not None and needs < SMALL
    return Plan(members, machine, why, lends, BATCH_OF_SMALL if small else None)


def _counts(machine: Machine, wish: Wish, needs: int | None) -> tuple[dict[str, int], str]:
    """How many of each, and why, if that was for us to say."""
    if not wish.counted and _device(machine, wish, ALL_ROLES, 0) == "cpu":
        count, why = _whole(machine, wish, needs)
        return {ALL_ROLES: count}, why
    # Whoever asks for whole instances gets no split next to them unless it is asked for too.
    usual = 0 if wish.monolithic or wish.all_in_one else 1
    denoisers = usual and _denoisers(machine, wish)
    counts = {
        ALL_ROLES: wish.all_in_one or 0,
        "encoder": usual if wish.encoders is None else wish.encoders,
        "denoiser": denoisers if wish.denoisers is None else wish.denoisers,
        "decoder": usual if wish.decoders is None else wish.decoders,
        "monolithic": wish.monolithic or 0,
    }
    return counts, ""


def _whole(machine: Machine, wish: Wish, needs: int | None) -> tuple[int, str]:
    """How many instances with all roles, and what bounds their number."""
    cores = max(1, machine.cores // ((wish.threads or 1) * wish.ranks))
    if needs is None or machine.memory is None:
        return 1, "one, because the size of the model is not known before it is loaded"
    room = max(1, int(machine.memory * MEMORY_SHARE) // max(1, needs * wish.ranks))
    if room < min(cores, MOST_WHOLE):
        return room, "as many as the memory holds"
    if cores > MOST_WHOLE:
        return MOST_WHOLE, "more are not started unless they are asked for"
    return cores, "one for each core" if wish.threads in (None, 1) else "as the threads allow"


def _denoisers(machine: Machine, wish: Wish) -> int:
    if machine.cuda_devices and wish.device is None:
        return max(1, machine.cuda_devices // wish.ranks)
    if wish.device not in (None, "cpu"):
        return 1
    cores = CORES_PER_DENOISER * wish.ranks
    return max(1, min(MOST_DENOISERS, machine.cores // cores))


def _denoises(role: str) -> bool:
    return bool(DENOISES & set(role.split(",")))


def _check_devices(machine: Machine, wish: Wish, roles: set[str]) -> None:
    """Ranks of one instance need a device each. Raises ValueError."""
    few = wish.device is None and 0 < machine.cuda_devices < wish.ranks
    if few and any(_denoises(role) for role in roles):
        raise ValueError(
            f"--ranks {wish.ranks} need as many CUDA devices; there are {machine.cuda_devices}"
        )


def _device(machine: Machine, wish: Wish, role: str, number: int) -> str:
    if wish.device is not None:
        return wish.device
    if not machine.cuda_devices:
        return "cpu"
    last = machine.cuda_devices - 1
    ranks = wish.ranks if _denoises(role) else 1
    first = ranks * (number % max(1, machine.cuda_devices // ranks))
    index = {"encoder": 0, "decoder": last}.get(role, first)
    return f"cuda:{index}"


def _name(role: str) -> str:
    return "all" if role == ALL_ROLES else role


def _count(number: int, role: str) -> str:
    if role == ALL_ROLES:
        return f"{number} with all roles"
    return f"{number} {role}" if role == "monolithic" else _plural(number, role)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
