"""Who may join an instance, and for how long."""

from typing import Any

import pytest

from roles.nodes.crew import LOST_S, Crew, Member
from roles.nodes.facts import Facts
from roles.nodes.messages import Join, NotJoined

FACTS = Facts(3, ("denoiser",), "f1", {"torch": "2.13.0"})
JOIN: dict[str, Any] = {
    "node": 1,
    "nodes": 3,
    "roles": ["denoiser"],
    "incarnation": "i1",
    "host": "b",
    "pid": 42,
    "devices": ["cpu"],
    "fingerprint": "f1",
    "software": {"torch": "2.13.0"},
}


def join(**other: Any) -> Join:
    return Join(**{**JOIN, **other})


def test_an_instance_is_complete_when_every_node_is_there() -> None:
    crew = Crew(FACTS, 100)
    assert crew.missing == [1, 2]
    two = crew.admit(b"x", join(node=2), 0.0)
    assert isinstance(two, Member)
    assert (two.epoch, crew.missing) == (101, [1])
    one = crew.admit(b"y", join(), 0.0)
    assert isinstance(one, Member)
    assert (one.epoch, crew.missing) == (102, [])
    assert crew.known(b"y", 102) is one
    assert crew.known(b"y", 101) is None
    assert crew.known(b"x", 102) is None
    assert crew.remove(one)
    assert not crew.remove(one)
    assert crew.missing == [1]
    assert crew.known(b"y", 102) is None


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"node": 0}, "there are nodes 0 to 2"),
        ({"node": 3}, "there are nodes 0 to 2"),
        ({"nodes": 2}, "it was started with --nnodes 2, the leader with 3"),
        ({"roles": ["decoder"]}, "--disagg-role decoder, the leader with denoiser"),
        ({"fingerprint": "f2"}, "the files of its --model are not those of the leader's"),
        ({"software": {"torch": "2.12.0"}}, "it has torch 2.12.0, the leader has 2.13.0"),
        ({"software": {}}, "it has torch None, the leader has 2.13.0"),
    ],
)
def test_who_cannot_compute_with_the_others_is_refused(other: dict[str, Any], reason: str) -> None:
    answer = Crew(FACTS, 0).admit(b"x", join(**other), 0.0)
    assert isinstance(answer, NotJoined)
    assert answer.final
    assert reason in answer.reason


def test_a_model_that_is_not_on_the_disk_yet_may_be_the_same() -> None:
    assert isinstance(Crew(FACTS, 0).admit(b"x", join(fingerprint=None), 0.0), Member)


def test_a_second_process_for_one_node_has_to_wait() -> None:
    crew = Crew(FACTS, 0)
    first = crew.admit(b"x", join(), 0.0)
    assert isinstance(first, Member)
    answer = crew.admit(b"y", join(incarnation="i2"), 0.0)
    assert isinstance(answer, NotJoined)
    assert not answer.final
    assert "node 1 (pid 42 on b)" in answer.reason
    assert crew.before(join(incarnation="i2")) is None
    assert crew.before(join()) is first


def test_who_is_silent_is_named() -> None:
    crew = Crew(FACTS, 0)
    member = crew.admit(b"x", join(), 10.0)
    assert isinstance(member, Member)
    assert crew.silent(10.0 + LOST_S) == []
    assert crew.silent(10.5 + LOST_S) == [member]
    member.heard = 11.0
    assert crew.silent(10.5 + LOST_S) == []
