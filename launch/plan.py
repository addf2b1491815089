"""Which instances a machine runs, on which device and with how many threads. Pure.

The rule, for what the user leaves out:

- One encoder and one decoder: both are idle while the denoiser works.
- With CUDA devices, one denoiser on each; the encoder shares the first, the decoder the last.
- Without, one denoiser for every 8 cores, at least 1 and at most 4: each holds its own weights.
- Threads: the cores divided among all ranks of the machine, at least 1. All ranks get the same
  number, because pictures are bit-identical only at equal numbers of threads, and because ranks
  that share cores slow each other down far more than their share.
"""

from dataclasses import dataclass

CORES_PER_DENOISER = 8
MOST_DENOISERS = 4


@dataclass(frozen=True)
class Machine:
    """What there is to share: cores that this process may use, and CUDA devices that torch sees."""

    cores: int
    cuda_devices: int = 0


@dataclass(frozen=True)
class Wish:
    """What the user asked for; None where it is left to the machine."""

    encoders: int | None = None
    denoisers: int | None = None
    decoders: int | None = None
    monolithic: int | None = None
    device: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Member:
    """One instance to start."""

    role: str
    name: str
    device: str
    threads: int


@dataclass(frozen=True)
class Plan:
    members: tuple[Member, ...]
    machine: Machine

    def of(self, role: str) -> list[Member]:
        return [member for member in self.members if member.role == role]

    @property
    def complete(self) -> bool:
        """Whether it can serve without instances from elsewhere."""
        split = all(self.of(role) for role in ("encoder", "denoiser", "decoder"))
        return split or bool(self.of("monolithic"))

    def __str__(self) -> str:
        roles = dict.fromkeys(member.role for member in self.members)
        counts = ", ".join(_count(len(self.of(role)), role) for role in roles)
        devices = sorted({member.device for member in self.members})
        threads = _count(self.members[0].threads, "thread")
        return f"{counts} on {', '.join(devices)}, {threads} each ({self.machine.cores} cores)"


def plan(machine: Machine, wish: Wish) -> Plan:
    """The members of a cluster on one machine, encoders first. ValueError: there are none."""
    counts = _counts(machine, wish)
    total = sum(counts.values())
    if total == 0:
        raise ValueError("there is nothing to start: every count is 0")
    threads = wish.threads or max(1, machine.cores // total)
    members = tuple(
        Member(role, f"{role}-{number}", _device(machine, wish, role, number), threads)
        for role, count in counts.items()
        for number in range(count)
    )
    return Plan(members, machine)


def _counts(machine: Machine, wish: Wish) -> dict[str, int]:
    # Whoever asks for monolithic instances gets no split next to them unless it is asked for too.
    usual = 0 if wish.monolithic else 1
    denoisers = usual and _denoisers(machine, wish)
    return {
        "encoder": usual if wish.encoders is None else wish.encoders,
        "denoiser": denoisers if wish.denoisers is None else wish.denoisers,
        "decoder": usual if wish.decoders is None else wish.decoders,
        "monolithic": wish.monolithic or 0,
    }


def _denoisers(machine: Machine, wish: Wish) -> int:
    if machine.cuda_devices and wish.device is None:
        return machine.cuda_devices
    if wish.device not in (None, "cpu"):
        return 1
    return max(1, min(MOST_DENOISERS, machine.cores // CORES_PER_DENOISER))


def _device(machine: Machine, wish: Wish, role: str, number: int) -> str:
    if wish.device is not None:
        return wish.device
    if not machine.cuda_devices:
        return "cpu"
    last = machine.cuda_devices - 1
    index = {"encoder": 0, "decoder": last}.get(role, number % machine.cuda_devices)
    return f"cuda:{index}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 or noun == "monolithic" else f"{number} {noun}s"
