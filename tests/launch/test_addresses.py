import socket

import pytest

from launch.addresses import Address, free_port
from launch.errors import LaunchError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("tcp://gpu-7:0", "gpu-7", 0),
        ("[::1]:65535", "::1", 65_535),
    ],
)
def test_addresses_parse_and_print(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert Address.parse(address.tcp) == address


@pytest.mark.parametrize("text", ["", "8000", ":8000", "host", "host:", "host:65536", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        Address.parse(text)


def test_an_address_of_all_interfaces_is_called_on_this_machine() -> None:
    assert str(Address("0.0.0.0", 80).reachable) == "127.0.0.1:80"
    assert str(Address("::", 80).reachable) == "[::1]:80"


def test_port_zero_settles_on_one_that_can_be_bound() -> None:
    address = Address("127.0.0.1", 0).settled()
    with socket.create_server((address.host, address.port)):
        pass
    assert address.settled() == address


def test_a_taken_port_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LaunchError, match=f"cannot listen on 127.0.0.1:{port}"):
            Address("127.0.0.1", port).settled()


def test_a_host_that_is_not_ours_has_no_free_port() -> None:
    with pytest.raises(LaunchError, match=r"no free port on 192\.0\.2\.1"):
        free_port("192.0.2.1")
