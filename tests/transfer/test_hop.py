"""A whole hop between two processes: pack, header, write, check, unpack; and what goes wrong."""

import time
from typing import Any

import msgspec
import pytest
import torch

from tests.support.instance import Instance
from tests.support.sending import Sender, grant
from tests.support.trees import random_tensor, same
from transfer.header import check_header, write_header
from transfer.messages import Delivery
from transfer.payload import pack, unpack
from transfer.tensors import DTYPES

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


def value() -> Any:
    return {
        "dtypes": {name: random_tensor(dtype, (3, 5)) for name, dtype in DTYPES.items()},
        "layouts": [torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)],
        "odd": (torch.tensor(3.0), torch.zeros(0, 4), torch.ones(1).expand(7, 7), None),
        "generator": torch.Generator().manual_seed(3),
        "large": torch.randn(9000),
    }


class Hop:
    """There into the receiver's slots 20, 3, 4 and 7, and back into the sender's 1 and 0."""

    def __init__(self, sender: Sender, receiver: Instance) -> None:
        self.sender = sender
        self.receiver = receiver
        self.granted = grant(receiver.address, [20, 3, 4, 7])
        self.back = grant(sender.transport.address(), [1, 0])

    async def there(self, payload: object) -> Delivery:
        packed = pack(payload)
        segments = self.sender.pool.segments(self.sender.slots, packed.nbytes)
        checksum = packed.write(segments)
        write_header(segments[0], "r", 1, self.granted.generation, packed.nbytes, checksum)
        await self.sender.send(packed.nbytes, self.granted)
        return Delivery(self.granted.generation, self.granted.slots, packed.nbytes, checksum)

    def echo(self, delivery: Delivery, request: str = "r") -> Any:
        """What the receiver makes of it, and sends back."""
        arguments = {"delivery": delivery, "slots": [24, 25], "grant": self.back}
        return self.receiver.call("echo", request=request, **arguments)


@pytest.fixture
def hop(sender: Sender, echoing: Instance) -> Hop:
    return Hop(sender, echoing)


async def test_every_dtype_goes_there_and_back(hop: Hop) -> None:
    sent = value()
    delivery = await hop.there(sent)
    reply = hop.echo(delivery)
    back = Delivery(hop.back.generation, [1, 0], reply["nbytes"], reply["checksum"])
    segments = hop.sender.pool.segments(back.slots, back.nbytes)
    check_header(segments[0], "r", 1, back)
    came = unpack(segments, back.nbytes, back.checksum)
    assert same(came, sent)
    assert came["layouts"][0].stride() == sent["layouts"][0].stride()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("generation", {"generation": 8}),
        ("nbytes", {"nbytes": 4096}),
        ("checksum", {"checksum": 1}),
    ],
)
async def test_what_was_not_announced_is_refused(
    hop: Hop, field: str, changes: dict[str, int]
) -> None:
    delivery = msgspec.structs.replace(await hop.there([1, 2]), **changes)
    assert f"the payload's {field} is" in hop.echo(delivery)["error"]


async def test_another_request_s_payload_is_refused(hop: Hop) -> None:
    assert "the payload's request is" in hop.echo(await hop.there([1, 2]), request="s")["error"]


async def test_a_write_that_lands_late_is_seen(hop: Hop) -> None:
    """The slots were given to another while a stale sender's last bytes were still on their way."""
    delivery = await hop.there(torch.zeros(40_000))
    stale = grant(hop.receiver.address, [3])
    await hop.sender.transport.send([2], 64 << 10, stale, time.monotonic())
    assert "checksum" in hop.echo(delivery)["error"]
    assert "nbytes" in hop.echo(await hop.there([1, 2]))
