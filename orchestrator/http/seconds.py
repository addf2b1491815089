"""Timings as clients read them: in steps of a microsecond."""

import msgspec

from orchestrator.service import Timings


def rounded(timings: Timings) -> Timings:
    fields: dict[str, float | None] = msgspec.structs.asdict(timings)
    steps = {name: s if s is None else round(s, 6) for name, s in fields.items()}
    return msgspec.structs.replace(timings, **steps)


def timings_json(timings: Timings) -> str:
    """For the header `x-triptych-timings`."""
    return msgspec.json.encode(rounded(timings)).decode()
