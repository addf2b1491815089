"""What the transfer tests share: two backends, a sender here, a receiver in another process."""

import asyncio
import functools
from collections.abc import Iterator
from typing import cast

import pytest

from tests.support.instance import Instance
from tests.support.sending import Sender
from transfer.backends import mooncake
from transfer.errors import BackendMissing
from transfer.transport import Kind


@functools.cache
def why_no_mooncake() -> str | None:
    try:
        mooncake.load()
    except BackendMissing as error:
        return str(error)
    return None


@pytest.fixture
def needs_mooncake() -> None:
    if reason := why_no_mooncake():
        pytest.skip(reason)


@pytest.fixture(scope="session", params=["shm", "mooncake"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """The backend under test."""
    if request.param == "mooncake" and (reason := why_no_mooncake()):
        pytest.skip(reason)
    return cast(Kind, request.param)


@pytest.fixture(scope="session")
def standing(kind: Kind) -> Iterator[Instance]:
    """A receiver that no test harms."""
    with Instance(kind) as instance:
        yield instance


@pytest.fixture(scope="session")
def echoing(kind: Kind) -> Iterator[Instance]:
    """A receiver that also sends."""
    with Instance(kind, outbox_slots=4) as instance:
        yield instance


@pytest.fixture
def receiver(standing: Instance) -> Instance:
    standing.call("fill")
    return standing


@pytest.fixture(scope="session")
def standing_sender(kind: Kind) -> Iterator[Sender]:
    made = Sender(kind)
    yield made
    asyncio.run(made.close())


@pytest.fixture
def sender(standing_sender: Sender) -> Sender:
    standing_sender.shuffle()
    return standing_sender
