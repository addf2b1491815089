"""Sizes as people write them: 16MiB of memory, 1024x768 pixels."""

import re

_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?b)?|b)?", re.IGNORECASE)
_PIXELS = re.compile(r"(\d+)[xX](\d+)")
_POWER = {"k": 1, "m": 2, "g": 3, "t": 4}


def parse_bytes(text: str) -> int:
    """Bytes of "4096", "64k", "16MiB", "1.5g" (1024s) or "16MB" (1000s).

    Raises ValueError, with a message for the user, if it is something else.
    """
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; write for example 4096, 64k, 16MiB or 1g")
    number, letter, unit = match.groups()
    base = 1000 if (unit or "").lower() == "b" else 1024
    value = float(number) * base ** (_POWER[letter.lower()] if letter else 0)
    if not value.is_integer():
        raise ValueError(f"{text!r} is no whole number of bytes")
    return int(value)


def parse_pixels(text: str) -> tuple[int, int]:
    """(width, height) of "1024x768". Raises ValueError with a message for the user."""
    match = _PIXELS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; write WIDTHxHEIGHT in pixels, for example 512x512")
    width, height = (int(side) for side in match.groups())
    if not (width and height):
        raise ValueError(f"{text!r}: neither side can be 0")
    return width, height
