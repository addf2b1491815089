"""The kinds of values that flags take, each with an error that shows how to write it."""

import re
from collections.abc import Callable
from typing import Any

import click

from launch.addresses import Address
from launch.sizes import parse_bytes, parse_pixels
from transfer.speed import parse_step_cache

_RATE = re.compile(r"0*[1-9][0-9]{0,8}\s*/\s*(second|minute|hour|day)")
_LONGEST_NAME = 256
_DEVICE = re.compile(r"cpu|cuda(:[0-9]+)?")
ROLE_NAMES = ("orchestrator", "encoder", "denoiser", "decoder", "monolithic")


class Parsed(click.ParamType[object]):
    """A flag's text through one function that raises ValueError with a message for the user."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            value = ",".join(value)  # a YAML list
        if not isinstance(value, str | int):
            return value
        try:
            return self._parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _roles(text: str) -> tuple[str, ...]:
    roles = tuple(part.strip() for part in text.split(","))
    for role in roles:
        if role not in ROLE_NAMES:
            raise ValueError(f"{role!r} is no role; there are {', '.join(ROLE_NAMES)}")
    if len(set(roles)) < len(roles):
        raise ValueError(f"{text!r} names a role twice")
    for role in ("orchestrator", "monolithic"):
        if role in roles and len(roles) > 1:
            raise ValueError(f"{role} shares its process with no other role")
    return roles


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise ValueError(f"{text!r} is no device; write cpu, cuda or cuda:N, for example cuda:0")
    return text


def _tcp(text: str) -> Address:
    if not text.startswith("tcp://"):
        raise ValueError(f"{text!r} is no address; write tcp://HOST:PORT")
    return Address.parse(text)


def _model_name(text: str) -> str:
    if not 0 < len(text) <= _LONGEST_NAME or not text.isprintable() or text == "default":
        raise ValueError(
            f"{text[:_LONGEST_NAME]!r} is no name of a model: it has 1 to {_LONGEST_NAME} "
            "characters that can be printed, and `default` is what requests call the usual one"
        )
    return text


def _rate(text: str) -> str:
    if not _RATE.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is no rate; write N/second|minute|hour|day, such as 60/minute")
    return text.strip()


def _tcp_list(text: str) -> tuple[str, ...]:
    return tuple(_tcp(part.strip()).tcp for part in text.split(",") if part.strip())


BYTES = Parsed("size", parse_bytes)
PIXELS = Parsed("WxH", parse_pixels)
HOST_PORT = Parsed("host:port", Address.parse)
TCP = Parsed("tcp://host:port", _tcp)
TCP_LIST = Parsed("url,url…", _tcp_list)
DEVICE = Parsed("device", _device)
MODEL_NAME = Parsed("name", _model_name)
RATE = Parsed("n/unit", _rate)
STEP_CACHE = Parsed("type[:number]", parse_step_cache)
ROLES = Parsed("role,role…", _roles)
