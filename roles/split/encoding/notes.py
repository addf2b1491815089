"""What is noted about a text that a tokenizer read."""

from typing import NamedTuple


class Note(NamedTuple):
    """How a tokenizer read a text: `letters` tell which field of the request it came from."""

    reader: str
    letters: str
    cut: bool


WRITTEN = Note("", "", False)  # a model has written something, and will be read instead
