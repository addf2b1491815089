"""The payload header: what was announced is accepted, every difference is named."""

import msgspec
import pytest

from transfer.errors import PayloadError
from transfer.header import HEADER_BYTES, check_header, write_header
from transfer.messages import Delivery

DELIVERY = Delivery(generation=7, slots=[0], nbytes=1000, checksum=(1 << 64) - 1)


@pytest.fixture
def payload() -> memoryview:
    view = memoryview(bytearray(b"\xff" * 1000))
    write_header(view, "request-1", 2, DELIVERY.generation, DELIVERY.nbytes, DELIVERY.checksum)
    return view


def test_what_was_announced_is_accepted(payload: memoryview) -> None:
    check_header(payload, "request-1", 2, DELIVERY)


def test_the_header_has_its_place_and_no_more(payload: memoryview) -> None:
    assert bytes(payload[HEADER_BYTES:]) == b"\xff" * (1000 - HEADER_BYTES)
    assert bytes(payload[:8]) == b"TRIPTYCH"


@pytest.mark.parametrize(
    ("field", "request_id", "attempt", "changes"),
    [
        ("request", "request-2", 2, {}),
        ("attempt", "request-1", 3, {}),
        ("generation", "request-1", 2, {"generation": 8}),
        ("nbytes", "request-1", 2, {"nbytes": 999}),
        ("checksum", "request-1", 2, {"checksum": 5}),
    ],
)
def test_a_difference_is_named(
    payload: memoryview, field: str, request_id: str, attempt: int, changes: dict[str, int]
) -> None:
    announced = msgspec.structs.replace(DELIVERY, **changes)
    with pytest.raises(PayloadError, match=f"the payload's {field} is"):
        check_header(payload, request_id, attempt, announced)


@pytest.mark.parametrize(("at", "field"), [(0, "magic"), (8, "version"), (12, "attempt")])
def test_a_flipped_bit_is_named(payload: memoryview, at: int, field: str) -> None:
    payload[at] ^= 1
    with pytest.raises(PayloadError, match=f"the payload's {field} is"):
        check_header(payload, "request-1", 2, DELIVERY)


@pytest.mark.parametrize("at", range(56))
def test_no_flipped_bit_passes(payload: memoryview, at: int) -> None:
    payload[at] ^= 0x80
    with pytest.raises(PayloadError):
        check_header(payload, "request-1", 2, DELIVERY)


def test_empty_slots_are_no_payload() -> None:
    with pytest.raises(PayloadError, match="magic"):
        check_header(memoryview(bytes(1000)), "request-1", 2, DELIVERY)


def test_less_than_a_header(payload: memoryview) -> None:
    with pytest.raises(PayloadError, match="no header"):
        check_header(payload[: HEADER_BYTES - 1], "request-1", 2, DELIVERY)
