"""By which address and network interface this host reaches another."""

import socket

import psutil

FAMILIES = (socket.AF_INET, socket.AF_INET6)


def resolved(host: str) -> tuple[socket.AddressFamily, str]:
    """A name or an address as an address. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0]
    return family, str(address[0])


def own_address(host: str) -> str:
    """This host's address on the way to `host`; no packet is sent. Raises OSError."""
    family, address = resolved(host)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def interface_to(host: str) -> str | None:
    """The name of the network interface on the way to `host`, which may be this one; None if none
    is found. Raises OSError."""
    own = own_address(host)
    if own.startswith("127.") or own == "::1":
        return "lo"
    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses:
            if each.family in FAMILIES and each.address.partition("%")[0] == own:
                return name
    return None
