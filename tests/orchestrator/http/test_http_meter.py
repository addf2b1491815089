"""The rate limit's arithmetic, on a clock of its own."""

import random

import pytest

from orchestrator.http.meter import Meter, Rate


@pytest.mark.parametrize(
    ("text", "amount", "seconds"),
    [
        ("60/minute", 60, 60),
        (" 5 / second ", 5, 1),
        ("1000/hour", 1000, 3600),
        ("1/day", 1, 86400),
    ],
)
def test_rates_as_people_write_them(text: str, amount: int, seconds: int) -> None:
    assert Rate.parse(text) == Rate(amount, seconds)


@pytest.mark.parametrize("text", ["", "60", "0/minute", "-1/second", "1.5/second", "5/fortnight"])
def test_what_is_no_rate_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="for example 60/minute"):
        Rate.parse(text)


def test_all_at_once_and_then_one_by_one() -> None:
    meter = Meter(Rate(3, 60))
    verdicts = [meter.ask("a", 100.0) for _ in range(4)]
    assert [each.allowed for each in verdicts] == [True, True, True, False]
    assert [each.remaining for each in verdicts] == [2, 1, 0, 0]
    assert verdicts[0].reset_s == pytest.approx(20)
    assert verdicts[2].reset_s == pytest.approx(60)
    assert verdicts[3].retry_s == pytest.approx(20)
    assert not meter.ask("a", 119.9).allowed
    assert meter.ask("a", 120.0).allowed
    assert not meter.ask("a", 120.0).allowed
    assert [meter.ask("a", 1000.0).remaining for _ in range(3)] == [2, 1, 0]


def test_coming_back_when_told_to_succeeds() -> None:
    """Retry-After is exact: never too early, and a refusal costs nothing."""
    chance = random.Random(1)
    for _ in range(200):
        meter = Meter(Rate(chance.randint(1, 50), chance.choice((1, 60, 3600))))
        now = chance.uniform(0, 1e6)
        for _ in range(200):
            verdict = meter.ask("a", now)
            if not verdict.allowed:
                assert verdict.remaining == 0
                now += verdict.retry_s
                assert meter.ask("a", now).allowed
            now += chance.expovariate(10)


def test_no_more_than_the_rate_over_a_long_time() -> None:
    meter, chance, allowed, now = Meter(Rate(10, 60)), random.Random(2), 0, 0.0
    while now < 6000:
        allowed += meter.ask("a", now).allowed
        now += chance.uniform(0, 1)
    assert 1000 <= allowed <= 1010


def test_callers_do_not_take_from_each_other() -> None:
    meter = Meter(Rate(1, 60))
    assert meter.ask("a", 0).allowed
    assert meter.ask("b", 0).allowed
    assert not meter.ask("a", 1).allowed


def test_the_table_is_bounded_and_keeps_the_busiest() -> None:
    meter = Meter(Rate(10, 60), most=100)
    for _ in range(10):
        meter.ask("busy", 0)
    for number in range(1000):
        assert meter.ask(f"stranger {number}", 0).allowed
        assert len(meter) <= 100
    assert not meter.ask("busy", 0).allowed


def test_callers_that_were_quiet_are_forgotten() -> None:
    meter = Meter(Rate(10, 60), most=100)
    for number in range(100):
        meter.ask(f"early {number}", 0)
    meter.ask("late", 1000)
    assert len(meter) == 1
