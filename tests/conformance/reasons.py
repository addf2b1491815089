"""What went wrong, as one line that is the same on every machine."""

import re

_PLACES = re.compile(r"/[\w.@+-]+(?:/[\w.@+-]+)+/?")  # of this machine: not for a file of results
_ADDRESSES = re.compile(r"0x[0-9a-f]{6,}")
LONGEST = 200


def reason_of(error: BaseException) -> str:
    """The error's kind and the first line of its message."""
    message = (str(error).strip().splitlines() or [""])[0]
    return brief(f"{type(error).__name__}: {message}" if message else type(error).__name__)


def brief(text: str) -> str:
    """Without paths, addresses, and what is too long for a table."""
    told = _ADDRESSES.sub("0x…", _PLACES.sub("…", text)).rstrip(". ")
    return told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
