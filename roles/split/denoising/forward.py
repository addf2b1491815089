"""Fast-forward: a pipeline's loop passed over without its transformer.

To go on in the middle of a loop, the pipeline runs from its beginning, with zeros of the right
shapes in the place of what the transformer would give, which costs next to nothing. When it comes
to the step at which the request was left, what the request had there is put in place
(`roles.split.denoising.snapshot`), and the transformer computes again from there on.

Everything in the loop that does not depend on the transformer happens as ever: so whatever a
pipeline prepares, counts or looks up needs not be known here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from roles.split.encoding.replay import hollow
from transfer.record import Record


class Outputs:
    """The forms of what a request's forwards gave, in their order. A form is the output with
    tensors that have a shape and no data."""

    def __init__(self) -> None:
        self._forms: list[Any] = []
        self._order: list[int] = []
        self._known: dict[Any, int] = {}

    def note(self, number: int, output: Any) -> None:
        """Forward `number` gave this. They come in the order in which the pipeline called them,
        whenever they were computed."""
        assert number == len(self._order), f"forward {number} after {len(self._order)}"
        key = _shape(output)
        if key not in self._known:
            self._known[key] = len(self._forms)
            self._forms.append(hollow(output))
        self._order.append(self._known[key])

    def zeros(self, number: int) -> Any:
        """What forward `number` gave, in zeros. Raises LookupError if it was not seen."""
        if number >= len(self._order):
            raise LookupError(f"forward {number} of a pipeline that had called {len(self._order)}")
        return _zeros(self._forms[self._order[number]])

    @property
    def crosses(self) -> bool:
        """Whether another process can be told of them: some models give things of their own."""
        return all(map(is_plain, self._forms))

    def tree(self) -> dict[str, Any]:
        """As plain values, for a payload."""
        return {"forms": list(self._forms), "order": list(self._order)}

    @classmethod
    def of(cls, tree: dict[str, Any]) -> "Outputs":
        """What `tree` gave, perhaps in another process."""
        outputs = cls()
        outputs._forms, outputs._order = list(tree["forms"]), list(tree["order"])
        outputs._known = {_shape(form): index for index, form in enumerate(outputs._forms)}
        return outputs


class Forward:
    """The part of a loop that is passed over.

    It ends with step `until`, at whose end `put(view)` gives the callback's tensors.
    """

    def __init__(
        self, outputs: Outputs, until: int, put: Callable[[Any], dict[str, torch.Tensor]]
    ) -> None:
        self.outputs = outputs
        self.until = until
        self._put = put

    def step_ends(self, view: Any, step: int, tensors: dict[str, Any]) -> bool:
        """Called at the end of each step with the callback's tensors; whether this was the last."""
        if step < self.until:
            return False
        tensors.update(self._put(view))
        return True


def _shape(output: Any) -> Any:
    """What makes two outputs of one form; hashable."""
    if isinstance(output, torch.Tensor):
        return output.dtype, output.device, tuple(output.shape)
    if isinstance(output, Record | dict):
        return tuple((name, _shape(value)) for name, value in output.items())
    if isinstance(output, Sequence) and not isinstance(output, str):
        return tuple(map(_shape, output))
    return type(output)


def is_plain(form: Any) -> bool:
    """Whether an output, or its form, is made of tensors and plain values."""
    if isinstance(form, Record | dict):
        return all(is_plain(value) for _, value in form.items())
    if isinstance(form, list | tuple):
        return all(map(is_plain, form))
    return form is None or isinstance(form, torch.Tensor | bool | int | float | str)


def _zeros(form: Any) -> Any:
    """A form with data. The data is new each time: pipelines change outputs in place."""
    if isinstance(form, torch.Tensor):
        return torch.zeros(form.shape, dtype=form.dtype, device=form.device)
    if isinstance(form, Record):
        return Record(**{name: _zeros(value) for name, value in vars(form).items()})
    if isinstance(form, dict):
        filled = {name: _zeros(value) for name, value in form.items()}
        return filled if type(form) is dict else type(form)(**filled)
    if isinstance(form, list | tuple):
        return type(form)(map(_zeros, form))
    return form
