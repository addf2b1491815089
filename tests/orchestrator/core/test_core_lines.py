from orchestrator.core.lines import Line


def _drain(line: Line[str]) -> list[str]:
    return [item for item in iter(lambda: line.pop_until(float("inf")), None)]


def test_lowest_order_first_and_equals_as_they_came() -> None:
    line: Line[str] = Line()
    for key, (order, item) in enumerate([(2, "c"), (1, "a"), (2, "d"), (1, "b")]):
        line.put(order, key, item)
    assert line.first() == 1
    assert _drain(line) == ["a", "b", "c", "d"]


def test_anyone_may_leave() -> None:
    line: Line[str] = Line()
    for key in range(5):
        line.put(key, key, str(key))
    line.discard(0)
    line.discard(3)
    line.discard(99)
    assert len(line) == 3
    assert line.head() == "1"
    assert _drain(line) == ["1", "2", "4"]


def test_entering_again_moves() -> None:
    line: Line[str] = Line()
    line.put(1, 1, "a")
    line.put(2, 2, "b")
    line.put(3, 1, "a")
    assert len(line) == 2
    assert _drain(line) == ["b", "a"]


def test_pop_until_leaves_what_comes_later() -> None:
    line: Line[str] = Line()
    line.put(5.0, 1, "later")
    assert line.pop_until(4.9) is None
    assert line.pop_until(5.0) == "later"


def test_those_who_left_take_no_room() -> None:
    line: Line[str] = Line()
    line.put(1e9, 0, "stays")
    for key in range(1, 10_000):
        line.put(key, key, "goes")
        line.discard(key)
    assert len(line._heap) < 100
