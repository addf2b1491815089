"""Frames: every message survives the wire; nothing else gets through."""

import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer import messages
from transfer.codec import (
    MAGIC,
    MAX_FRAME_BYTES,
    PROTOCOL,
    Decoder,
    ProtocolError,
    encode,
    parting,
)
from transfer.messages import Heartbeat, MediaChunk, Work, from_instance, to_media

UNIONS: list[tuple[Decoder, typing.Any]] = [
    (messages.from_instance, messages.FromInstance),
    (messages.from_orchestrator, messages.FromOrchestrator),
    (messages.to_media, messages.ToMedia),
    (messages.from_media, messages.FromMedia),
]

WORK = Work(
    epoch=1,
    request="r",
    attempt=1,
    role="encoder",
    last=False,
    inputs=messages.Inputs(params={"prompt": "a", "sizes": [1, [2.5, None]]}, seed=5),
    seconds=3.0,
    delivery=messages.Delivery(generation=1, slots=[1, 2], nbytes=5, checksum=(1 << 64) - 1),
    grant=messages.Grant(
        request="r",
        attempt=1,
        generation=2,
        receiver="d",
        receiver_epoch=4,
        slots=[0],
        seconds=1.5,
        pool=messages.PoolAddress(
            slots=2,
            slot_bytes=4096,
            offset=4096,
            shm=messages.ShmAddress(pid=1, fd=2, nonce=b"\0" * 16, nbytes=8192),
            mooncake=messages.MooncakeAddress("h:1", 1 << 47),
        ),
    ),
)


def test_a_message_survives() -> None:
    assert messages.from_orchestrator.decode(encode(WORK)) == WORK


def test_every_message_of_a_union_has_its_own_tag() -> None:
    for _, union in UNIONS:
        tags = [kind.__struct_config__.tag for kind in typing.get_args(union)]
        assert len(set(tags)) == len(tags)


def reason(frame: bytes, decoder: Decoder = from_instance) -> str:
    with pytest.raises(ProtocolError) as error:
        decoder.decode(frame)
    return error.value.reason


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (b"", "magic"),
        (b"GET / HTTP/1.1\r\n\r\n", "magic"),
        (bytes([MAGIC]), "magic"),
        (bytes([MAGIC, PROTOCOL + 1, 0xC0]), "version"),
        (bytes([MAGIC, PROTOCOL, 0xC0]), "message"),
        (bytes([MAGIC, 0]) + b"no", "parting"),
        (bytes([MAGIC, PROTOCOL]) + b"\x91" * 5000, "message"),
        (bytes(MAX_FRAME_BYTES + 1), "size"),
    ],
)
def test_what_is_no_frame(frame: bytes, expected: str) -> None:
    assert reason(frame) == expected


def test_a_parting_is_a_line_whatever_is_in_it() -> None:
    with pytest.raises(ProtocolError) as error:
        from_instance.decode(parting(bytes([MAGIC, 9, 0])))
    assert str(error.value) == f"it speaks protocol {PROTOCOL}, and this instance protocol 9"
    with pytest.raises(ProtocolError) as error:
        from_instance.decode(bytes([MAGIC, 0]) + b"a\nb\x1b[31m\xff" * 1000)
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 500


def test_a_message_of_another_channel_is_refused() -> None:
    assert reason(encode(Heartbeat(1)), to_media) == "message"


def test_unknown_fields_and_wrong_types_are_refused() -> None:
    prefix = bytes([MAGIC, PROTOCOL])
    for fields in ({"epoch": 1, "extra": 2}, {"epoch": "1"}, {"epoch": 1.5}, {}):
        body = msgspec.msgpack.encode({"type": "heartbeat"} | fields)
        assert reason(prefix + body) == "message"


def test_a_message_too_large_to_send() -> None:
    with pytest.raises(ProtocolError, match="allowed"):
        encode(MediaChunk("m", 0, bytes(MAX_FRAME_BYTES)))


@given(st.binary(max_size=200))
def test_garbage_is_only_ever_a_protocol_error(data: bytes) -> None:
    for decoder, _ in UNIONS:
        for frame in (data, bytes([MAGIC, PROTOCOL]) + data):
            with pytest.raises(ProtocolError):
                decoder.decode(frame)
