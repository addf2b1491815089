"""Whether the tokenizers read the whole prompt, or cut its end off without a word."""

import copy
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from roles.split.encoding.notes import WRITTEN, Note
from roles.split.face import Answer, Face, Own
from roles.split.program import BadInput

# how a tokenizer is asked to read without cutting; the rest of the arguments stay
_WHOLE = {"truncation": False, "padding": False, "max_length": None, "return_tensors": None}


class Reading:
    """Watches one request's tokenizers. `notes`: what they read, in order.

    A prompt is too long when every tokenizer that read it cut it: pipelines with a short and a long
    text encoder (77 and 512 tokens, say) take what the long one takes. Where a model has written a
    prompt of its own, the length of that is nobody's mistake, and it is cut as in the plain
    pipeline.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        self.notes: list[Note] = []
        self._params = params
        self._cut: dict[str, dict[str, bool]] = {}
        self._written = False

    def faces(self, components: dict[str, Any]) -> dict[str, Any]:
        """The faces of the tokenizers among a pipeline's components."""
        kinds = (PreTrainedTokenizerBase, ProcessorMixin)
        readers = {k: v for k, v in components.items() if isinstance(v, kinds)}
        return {name: self._face(name, reader) for name, reader in readers.items()}

    def writer(self, model: Any, generate: Answer | None = None) -> Face:
        """The face of a model that generates text, by itself or with `generate`: what it writes is
        read instead of what was given."""

        def write(*args: Any, **kwargs: Any) -> Any:
            self.note(WRITTEN)
            return (generate or model.generate)(*args, **kwargs)

        return Face(model, {"generate": write})

    def check(self) -> None:
        """Raises BadInput for a text that no tokenizer read to its end."""
        for param, by_reader in self._cut.items():
            if all(by_reader.values()):
                raise BadInput(f"{param} is longer than the model reads", param)

    def _face(self, name: str, shared: Any) -> Face:
        reader = copy.copy(shared)  # pipelines set its padding side and padding token

        def call(*args: Any, **kwargs: Any) -> Any:
            # as it was given: the first argument of a processor is its pictures
            text = kwargs.get("text", args[0] if args else None)
            return self._note(name, text, reader, args, kwargs)

        def template(conversation: Any, *args: Any, **kwargs: Any) -> Any:
            given = (conversation, *args)
            return self._note(name, conversation, reader.apply_chat_template, given, kwargs)

        answers: dict[str, Any] = {"__call__": call}
        if hasattr(reader, "apply_chat_template"):
            answers["apply_chat_template"] = template
        return Own(reader, answers)

    def _note(self, name: str, text: Any, read: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        result = read(*args, **kwargs)
        if kwargs.get("truncation") and kwargs.get("tokenize", True):
            texts = text if isinstance(text, list | tuple) else [text]
            columns = max(map(len, _ids(result)))
            whole = _ids(read(*args, **{**kwargs, **_WHOLE}))
            for each, ids in zip(texts, whole, strict=False):
                self.note(Note(name, _letters(each), len(ids) > columns))
        return result

    def note(self, note: Note) -> None:
        """A text was read so, now or when what was made of it went into the cache."""
        self.notes.append(note)
        self._written |= note == WRITTEN
        param = self._param_of(note.letters)
        if self._written and param == "prompt":
            return
        by_reader = self._cut.setdefault(param, {})
        by_reader[note.reader] = by_reader.get(note.reader, False) or note.cut

    def _param_of(self, letters: str) -> str:
        """The request's field that a text came from; pipelines clean and wrap it."""
        fields = [k for k in self._params if "prompt" in k and isinstance(self._params[k], str)]
        holding = [k for k in fields if (own := _letters(self._params[k])) and own in letters]
        return max(holding, key=lambda k: len(self._params[k]), default="prompt")


def _ids(encoded: Any) -> list[Any]:
    ids = encoded["input_ids"] if hasattr(encoded, "keys") else encoded
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    return ids if ids and isinstance(ids[0], list) else [ids]


def _letters(text: Any) -> str:
    return "".join(letter for letter in str(text).lower() if letter.isalnum())
