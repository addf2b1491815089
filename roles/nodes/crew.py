"""Which nodes have joined their leader: who may, and who has been silent for too long. Pure."""

from dataclasses import dataclass

from roles.nodes.facts import Facts
from roles.nodes.messages import Join, NotJoined

BEAT_S = 1.0
LOST_S = 10.0  # without a word for so long, the other side is gone


@dataclass
class Member:
    """A node that has joined. `identity`: of its connection; `heard`: when it last said a word."""

    identity: bytes
    epoch: int
    join: Join
    heard: float

    @property
    def node(self) -> int:
        return self.join.node

    def __str__(self) -> str:
        return f"node {self.node} (pid {self.join.pid} on {self.join.host})"


class Crew:
    """Nodes 1 … of an instance, by number, as far as they are there. `first_epoch` is random, so
    that a node that has survived its leader is nobody to the next one."""

    def __init__(self, facts: Facts, first_epoch: int) -> None:
        self._facts = facts
        self._epoch = first_epoch
        self._members: dict[int, Member] = {}

    @property
    def members(self) -> list[Member]:
        return list(self._members.values())

    @property
    def missing(self) -> list[int]:
        return [node for node in range(1, self._facts.nodes) if node not in self._members]

    def of(self, node: int) -> Member | None:
        return self._members.get(node)

    def known(self, identity: bytes, epoch: int) -> Member | None:
        """Who says this; None if it is said for a membership that is over."""
        for member in self._members.values():
            if member.identity == identity and member.epoch == epoch:
                return member
        return None

    def before(self, join: Join) -> Member | None:
        """The membership that this very process had until now."""
        member = self._members.get(join.node)
        same = member is not None and member.join.incarnation == join.incarnation
        return member if same else None

    def admit(self, identity: bytes, join: Join, now: float) -> Member | NotJoined:
        if not 1 <= join.node < self._facts.nodes:
            last = self._facts.nodes - 1
            return NotJoined(f"--node-rank {join.node}: there are nodes 0 to {last}", final=True)
        if (difference := self._facts.difference(join)) is not None:
            return NotJoined(difference, final=True)
        if (other := self._members.get(join.node)) is not None:
            return NotJoined(f"there is a {other} already", final=False)
        self._epoch += 1
        member = self._members[join.node] = Member(identity, self._epoch, join, now)
        return member

    def remove(self, member: Member) -> bool:
        """Whether it was one until now."""
        there = self._members.get(member.node) is member
        if there:
            del self._members[member.node]
        return there

    def silent(self, now: float) -> list[Member]:
        return [member for member in self.members if now - member.heard > LOST_S]
