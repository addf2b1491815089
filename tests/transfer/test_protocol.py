"""A message that has changed is another protocol: unknown fields are forbidden, so that an older
process would understand nothing of it, and say so only if the number tells."""

import json
from typing import Any

import msgspec
import xxhash

from transfer.codec import PROTOCOL
from transfer.manifest import Manifest
from transfer.messages import FromInstance, FromMedia, FromOrchestrator, ToMedia

# By protocol: what `digest` gave for the messages of that number. Raise `PROTOCOL` when this test
# fails, unless nobody has run the number that it has now, and write the new digest here.
RECORDED = {2: "1411ac279690a425"}


def shape(schema: Any) -> Any:
    """A schema without its prose."""
    if isinstance(schema, dict):
        told = {k for k in ("description", "title") if isinstance(schema.get(k), str)}
        return {key: shape(value) for key, value in schema.items() if key not in told}
    return [shape(each) for each in schema] if isinstance(schema, list) else schema


def digest(*kinds: Any) -> str:
    schemas, components = msgspec.json.schema_components(kinds)
    shapes = json.dumps(shape([schemas, components]), sort_keys=True)
    return xxhash.xxh3_64_hexdigest(shapes.encode())


def test_messages_do_not_change_without_another_number() -> None:
    found = digest(FromInstance, FromOrchestrator, ToMedia, FromMedia, Manifest)
    assert RECORDED.get(PROTOCOL) == found, (
        "what crosses the wire has changed: raise PROTOCOL in transfer/codec.py, and record "
        f'{{NUMBER: "{found}"}} here'
    )


class One(msgspec.Struct, tag="one"):
    number: int


def test_what_counts_as_a_change() -> None:
    class Renamed(msgspec.Struct, tag="one"):
        count: int

    class Grown(msgspec.Struct, tag="one"):
        number: int
        more: str = ""

    class Typed(msgspec.Struct, tag="one"):
        number: float

    class Tagged(msgspec.Struct, tag="two"):
        number: int

    for changed in (Renamed, Grown, Typed, Tagged):
        changed.__name__ = "One"
        assert digest(changed) != digest(One)


def test_prose_is_no_change() -> None:
    class Told(msgspec.Struct, tag="one"):
        """What it is for."""

        number: int

    Told.__name__ = "One"
    assert digest(Told) == digest(One)
