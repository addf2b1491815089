"""What went wrong with a request, as everybody is told."""

from typing import Literal

import msgspec

from transfer.codec import Record


class ErrorInfo(Record, frozen=True):
    """What went wrong, where. `kind` decides the HTTP status.

    invalid_request 400 (param: the field), unsupported 422, payload 500, rank_failed 500,
    rank_died 500, stalled 504, transfer_failed 500, instance_lost 503, deadline 504,
    cancelled 499, payload_too_large 413, internal 500.

    `history`: what became of the attempts before the one that failed so, a line each.
    `bystander`: the request was in the memory of a rank that died while it worked on another one.
    """

    kind: Literal[
        "invalid_request",
        "unsupported",
        "payload",
        "payload_too_large",
        "rank_failed",
        "rank_died",
        "stalled",
        "transfer_failed",
        "instance_lost",
        "deadline",
        "cancelled",
        "internal",
    ]
    message: str
    param: str | None = None
    instance: str | None = None
    rank: int | None = None
    traceback: str | None = None
    history: list[str] = []  # noqa: RUF012  # msgspec copies it
    bystander: bool = False

    def but(self, **changes: object) -> "ErrorInfo":
        """The same error with some fields changed."""
        return msgspec.structs.replace(self, **changes)
