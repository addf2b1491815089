"""What the scripted ranks compute: a chain of digests from the request's inputs to its picture.

Each stage's value follows from the one before it, so whatever was computed on anything else than
the payload of that request shows in the result (I6, I12).
"""

import xxhash

from tests.simulation.questions import PATHS
from transfer.header import HEADER_BYTES
from transfer.messages import SPLIT_ROUTE, Inputs, Role

SIZES = (200, 1500, 4096, 5000, 9000)
"""Bytes of a payload, header included: up to three slots of a page."""


_MARK = b"a checkpoint"
SHARED = ["", *(f"of {path}" for path in PATHS)]


def weights(model: str, shared: str) -> str:
    """With what an instance computes: no two models have the same."""
    return f"{model} {shared}"


def _weights_for(inputs: Inputs) -> list[str]:
    return [weights(str(inputs.params["model"]), shared) for shared in SHARED]


def first(inputs: Inputs) -> bytes:
    """What every route begins with."""
    return xxhash.xxh3_128_digest(b"inputs %d" % inputs.seed)


def steps(value: bytes) -> int:
    """How many steps the denoising of that encoding takes."""
    return 1 + value[1] % 16


def step(value: bytes, weights: str) -> bytes:
    """The state after one more step."""
    return xxhash.xxh3_128_digest(value + b"step" + weights.encode())


def then(value: bytes, role: Role, weights: str) -> bytes:
    return xxhash.xxh3_128_digest(value + role.encode() + weights.encode())


def expected(inputs: Inputs) -> set[str]:
    """The pictures that this request may become: all of it with the same weights, of its model.
    `monolithic` computes all stages."""
    return {_picture(inputs, weights) for weights in _weights_for(inputs)}


def _picture(inputs: Inputs, weights: str) -> str:
    value = first(inputs)
    for role in SPLIT_ROUTE:
        if role == "denoiser":
            for _ in range(steps(value)):
                value = step(value, weights)
        value = then(value, role, weights)
    return value.hex()


def preview(value: bytes) -> bytes:
    """What a decoder is given of a request whose denoising is at `value`."""
    return xxhash.xxh3_128_digest(value + b"preview")


def expected_previews(inputs: Inputs) -> set[str]:
    """After each step but the last."""
    found = set()
    for weights in _weights_for(inputs):
        value = then(first(inputs), "encoder", weights)
        for _ in range(steps(value) - 1):
            value = step(value, weights)
            found.add(then(preview(value), "decoder", weights).hex())
    return found


def words(value: bytes) -> int:
    """How many tokens an encoder writes first, in a place of what it encodes; often none."""
    return value[1] % 5


def size(value: bytes) -> int:
    """The same for every computation of a stage."""
    return SIZES[value[0] % len(SIZES)]


def body(value: bytes) -> bytes:
    length = size(value) - HEADER_BYTES
    return (value * (length // len(value) + 1))[:length]


def checkpoint(value: bytes, step: int, steps: int) -> bytes:
    """The body of a checkpoint: the state, and where in its loop it is."""
    return value + _MARK + bytes([step, steps])


def midway(body: bytes) -> tuple[int, int] | None:
    """Step and steps of a checkpoint; None if it is a whole stage's payload."""
    rest = body[16:]
    return (rest[-2], rest[-1]) if rest.startswith(_MARK) and len(rest) == 2 + len(_MARK) else None


def read(body: bytes, checksum: int) -> bytes | None:
    """The value in a payload; None if its checksum is not the announced one."""
    return body[:16] if xxhash.xxh3_64_intdigest(body) == checksum else None
