"""Whom an operator may name: adapters are the same in all that take them."""

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.core.events import AskInstances
from orchestrator.operator import NotAlone, Operator, UnknownAdapter, UnknownTarget
from tests.support.bench import Bench
from transfer.actions import LoadLora, UnloadLora

LOAD = LoadLora("a", "/a")


class Asked(Exception):
    """The core was asked."""


def operator(bench: Bench) -> Operator:
    def post(event: AskInstances) -> None:
        raise Asked(*event.names)

    control: Any = SimpleNamespace(machine=bench.machine, post=post)
    return Operator(control)


@pytest.fixture
def bench() -> Bench:
    """Two encoders whose texts adapters may change, and one denoiser."""
    bench = Bench()
    for number in range(2):
        bench.join(f"e{number}", "encoder", adaptable=["text_encoder"])
    bench.join("d0", "denoiser", adaptable=["unet"])
    bench.join("v0", "decoder")
    return bench


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("denoiser", ["d0"]),
        ("d0", ["d0"]),  # there is no other one that does the same
        ("encoder", ["e0", "e1"]),
        ("all", ["e0", "e1", "d0", "v0"]),
        ("decoder", ["v0"]),  # which will say that it has no use for it
    ],
)
async def test_it_is_asked_for(target: str, names: list[str], bench: Bench) -> None:
    with pytest.raises(Asked) as asked:
        await operator(bench).ask(target, LOAD, 1.0)
    assert list(asked.value.args) == names


async def test_one_of_several_that_do_the_same_is_not_changed_alone(bench: Bench) -> None:
    with pytest.raises(NotAlone, match=r"every encoder has the same adapters \(e0, e1\)"):
        await operator(bench).ask("e0", LOAD, 1.0)


async def test_what_is_not_there_is_an_error(bench: Bench) -> None:
    with pytest.raises(UnknownTarget):
        await operator(bench).ask("nobody", LOAD, 1.0)
    with pytest.raises(UnknownAdapter, match="loaded: none"):
        await operator(bench).ask("encoder", UnloadLora("a"), 1.0)
