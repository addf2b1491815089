"""Addresses as people write them, and ports that are free."""

import random
import socket
from dataclasses import dataclass
from typing import Self

from launch.errors import LaunchError

DEFAULT_HTTP = "127.0.0.1:8000"
DEFAULT_URL = f"http://{DEFAULT_HTTP}"
DEFAULT_CONTROL = "tcp://127.0.0.1:7700"

# Below Linux's ephemeral range (32768 and up), so that no outgoing connection takes one of them
# between our look and the bind of the process that we give it to.
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Address:
    """A host and a TCP port; port 0 means "any that is free"."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of "HOST:PORT", "[V6]:PORT", with or without "tcp://". Raises ValueError."""
        host, colon, port = text.removeprefix("tcp://").rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or int(port) > 65_535:
            raise ValueError(f"{text!r} is no address; write HOST:PORT, for example 127.0.0.1:8000")
        return cls(host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def tcp(self) -> str:
        return f"tcp://{self}"

    @property
    def reachable(self) -> "Address":
        """As it is called on this machine: an address that means "all" is no destination."""
        return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)

    def settled(self) -> "Address":
        """Itself, known to be free; or, for port 0, with a free port. Raises `LaunchError`."""
        if self.port == 0:
            return Address(self.host, free_port(self.host))
        try:
            _bind(self.host, self.port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise LaunchError(f"cannot listen on {self}: {reason}; choose another port") from error
        return self


def free_port(host: str) -> int:
    """A port of `host` that nobody listens on just now. Raises `LaunchError`."""
    failure: OSError | None = None
    for port in random.sample(_PORTS, 100):
        try:
            _bind(host, port)
        except OSError as error:
            failure = error
        else:
            return port
    raise LaunchError(f"no free port on {host}: {failure}")


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
