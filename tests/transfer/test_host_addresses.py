"""Which addresses only this host can reach."""

import pytest

from transfer.addresses import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "box", "gpu1.example"])
def test_others(host: str) -> None:
    assert not is_loopback(host)
