"""Which instances an operator's call is for, where several models are served."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from orchestrator.core.commands import Answers
from orchestrator.core.events import AskInstances, Event
from orchestrator.operator import Conflict, Operator, SeveralModels, UnknownTarget
from tests.support.bench import OTHER, Bench
from transfer.actions import Adapter, Health, LoadLora, UnloadLora, UpdateWeights
from transfer.messages import SPLIT_ROUTE


class Channel:
    """The control channel of a bench: it keeps what is posted, and answers at once."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.machine = self.bench.machine
        self.answered: Any = None
        self.asked: list[str] = []

    def post(self, event: Event) -> None:
        assert isinstance(event, AskInstances)
        self.asked = event.names
        self.answered(Answers(event.number, {}))


@pytest.fixture
def channel() -> Channel:
    made = Channel()
    for model, prefix in ((None, "mine"), (OTHER, "other")):
        changes: dict[str, Any] = {"parts": ["net"]} | ({"model": model} if model else {})
        for role in SPLIT_ROUTE:
            made.bench.join(f"{prefix}-{role}", role, **changes)
    return made


@pytest.fixture
def operator(channel: Channel) -> Operator:
    return Operator(channel)  # type: ignore[arg-type]


def now(asking: Awaitable[Answers]) -> Answers:
    return asyncio.run(asking)  # type: ignore[arg-type]


def test_what_changes_nothing_is_asked_of_all_or_of_those_of_a_model(
    channel: Channel, operator: Operator
) -> None:
    now(operator.ask("denoiser", Health(), 1.0))
    assert channel.asked == ["mine-denoiser", "other-denoiser"]
    now(operator.ask("denoiser", Health(), 1.0, "other"))
    assert channel.asked == ["other-denoiser"]
    now(operator.ask("all", Health(), 1.0, "demo"))
    assert channel.asked == [f"mine-{role}" for role in SPLIT_ROUTE]


@pytest.mark.parametrize("action", [LoadLora("a", "/a"), UnloadLora("a"), UpdateWeights("/w")])
def test_a_change_is_for_one_model(channel: Channel, operator: Operator, action: Any) -> None:
    channel.bench.model.adapters["a"] = Adapter("a", "/a", 1.0, "d1")
    with pytest.raises(SeveralModels, match=r"several models \(demo, other\)"):
        now(operator.ask("denoiser", action, 1.0))
    now(operator.ask("denoiser", action, 1.0, "demo"))
    assert channel.asked == ["mine-denoiser"]


def test_the_same_name_may_be_another_adapter_of_another_model(
    channel: Channel, operator: Operator
) -> None:
    channel.bench.model.adapters["a"] = Adapter("a", "/a", 1.0, "d1")
    with pytest.raises(Conflict):
        now(operator.ask("denoiser", LoadLora("a", "/b"), 1.0, "demo"))
    now(operator.ask("denoiser", LoadLora("a", "/b"), 1.0, "other"))
    assert channel.asked == ["other-denoiser"]


def test_who_is_alone_in_his_model_can_be_named(channel: Channel, operator: Operator) -> None:
    now(operator.ask("other-denoiser", LoadLora("a", "/a"), 1.0))
    assert channel.asked == ["other-denoiser"]
    now(operator.ask("other-decoder", UpdateWeights("/w"), 1.0))
    assert channel.asked == ["other-decoder"]


def test_nobody_of_that_model_is_called_so(operator: Operator) -> None:
    for target, model in (("denoiser", "third"), ("mine-denoiser", "other")):
        with pytest.raises(UnknownTarget):
            now(operator.ask(target, Health(), 1.0, model))
