"""Host addresses as people write them."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this host can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name
