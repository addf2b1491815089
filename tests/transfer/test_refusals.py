"""Who was turned away, from what ZeroMQ tells."""

import random
from dataclasses import dataclass

import zmq

from transfer.monitor import Happening
from transfer.refusals import Refusals

PATIENCE_S = 4.0
CAME, WENT = zmq.EVENT_ACCEPTED, zmq.EVENT_DISCONNECTED
SHOOK = Happening(zmq.EVENT_HANDSHAKE_SUCCEEDED, 0)
WRONG_KEY = Happening(zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400)
OTHER_PAIR = Happening(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC)
NO_KEY = Happening(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
HUNG_UP = Happening(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, 32)


def counted(*happenings: Happening, after_s: float = 100.0) -> dict[str, int]:
    refusals = Refusals(PATIENCE_S)
    for happening in happenings:
        refusals.note(happening, 0.0)
    refusals.settle(after_s)
    return {reason: count for reason, count in refusals.counts.items() if count}


def test_whoever_gets_in_is_not_counted() -> None:
    assert counted(Happening(CAME, 7), SHOOK) == {}
    assert counted(Happening(CAME, 7), SHOOK, Happening(WENT, 7)) == {}


def test_reasons() -> None:
    came, went = Happening(CAME, 7), Happening(WENT, 7)
    assert counted(came, WRONG_KEY, went) == {"key": 1}
    assert counted(came, OTHER_PAIR, went) == {"key": 1}
    assert counted(came, NO_KEY, went) == {"mechanism": 1}
    assert counted(came, HUNG_UP, went) == {"bytes": 1}
    assert counted(came, went) == {"bytes": 1}  # HTTP, TLS, noise


def test_who_says_nothing_is_counted_when_the_time_is_over() -> None:
    assert counted(Happening(CAME, 7), after_s=PATIENCE_S) == {}
    assert counted(Happening(CAME, 7), after_s=PATIENCE_S + 0.1) == {"bytes": 1}


def test_a_descriptor_comes_again() -> None:
    twice = [Happening(CAME, 7), Happening(WENT, 7)] * 2
    assert counted(*twice) == {"bytes": 2}
    assert counted(*twice, Happening(CAME, 7), SHOOK) == {"bytes": 2}


@dataclass
class Connection:
    descriptor: int
    fate: str
    done: bool = False


def test_never_one_too_many_and_all_in_the_end() -> None:
    for seed in range(200):
        _play(random.Random(seed))


def _play(dice: random.Random) -> None:
    """Connections come, succeed or fail, and go, in any order that ZeroMQ can tell of."""
    refusals, now = Refusals(PATIENCE_S), 0.0
    alive: list[Connection] = []
    refused = 0
    for _ in range(100):
        now += dice.random() / 10
        if not alive or dice.random() < 0.4:
            free = next(n for n in range(200) if n not in {c.descriptor for c in alive})
            alive.append(Connection(free, dice.choice(["in", "key", "mechanism", "bytes"])))
            refusals.note(Happening(CAME, free), now)
            continue
        connection = dice.choice(alive)
        if not connection.done:
            connection.done = True
            refused += connection.fate != "in"
            outcome = {"in": SHOOK, "key": OTHER_PAIR, "mechanism": NO_KEY}.get(connection.fate)
            if outcome:
                refusals.note(outcome, now)
            if connection.fate == "in":
                continue
        alive.remove(connection)
        refusals.note(Happening(WENT, connection.descriptor), now)
        refusals.settle(now)
        assert refusals.counts.total() <= refused
    unheard = sum(not connection.done for connection in alive)
    refusals.settle(now + PATIENCE_S + 1)
    assert refusals.counts.total() == refused + unheard
    assert not refusals.open
