from collections.abc import Iterator

import pytest

from tests.support.canned_server import Canned, canned_server


@pytest.fixture
def canned() -> Iterator[Canned]:
    with canned_server() as server:
        yield server
