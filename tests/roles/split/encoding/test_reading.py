"""Reading: a request's tokenizers and processors are called as its pipeline calls them."""

from typing import Any

import pytest
from transformers import ProcessorMixin

from roles.split.encoding.reading import Reading
from roles.split.program import BadInput


class Sighted(ProcessorMixin):  # type: ignore[misc]
    """Takes pictures first, as processors do; a word is a token."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> dict[str, Any]:
        self.asked.append({"images": images, "text": text})
        length = options.get("max_length") or 100
        return {"input_ids": [list(range(len(each.split())))[:length] for each in text]}


def test_a_processor_gets_its_pictures_and_its_text_as_they_were_named() -> None:
    shared = Sighted()
    face = Reading({"prompt": "a b"}).faces({"processor": shared})["processor"]
    assert face(text=["a b"], images=["picture"]) == {"input_ids": [[0, 1]]}
    assert face(["picture"], ["a b"]) == {"input_ids": [[0, 1]]}
    assert shared.asked == [{"images": ["picture"], "text": ["a b"]}] * 2


def test_a_processor_that_cuts_a_prompt_is_noticed() -> None:
    reading = Reading({"prompt": "a b c"})
    face = reading.faces({"processor": Sighted()})["processor"]
    face(images=["picture"], text=["a b c"], truncation=True, max_length=2)
    with pytest.raises(BadInput, match="longer than the model reads"):
        reading.check()
