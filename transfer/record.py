"""What a model's output object becomes on the other side: its fields, and no class by a name."""

from collections.abc import Iterator, Mapping
from typing import Any


class Record(Mapping[str, Any]):
    """Fields under their names, in order, with the access that diffusers' `BaseOutput` and
    transformers' `ModelOutput` give.

    `out.sample`, `out["sample"]`, `out[0]` and `out.to_tuple()` work; as in those classes, a field
    that is None can be read as an attribute but is not counted, indexed or iterated.
    """

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return dict(self._present())[key]
        return self.to_tuple()[key]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._present())

    def __len__(self) -> int:
        return sum(1 for _ in self._present())

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(value for _, value in self._present())

    def _present(self) -> Iterator[tuple[str, Any]]:
        return ((name, value) for name, value in vars(self).items() if value is not None)
