"""Whether more threads pay, learned from what ran."""

from roles.rank.spreading import AGAIN, ENOUGH, MAX_KINDS, Spreading


def taught(wide: float, narrow: float) -> Spreading:
    spreading = Spreading()
    for _ in range(ENOUGH):
        spreading.learn("step", 4, wide)
        spreading.learn("step", 1, narrow)
    return spreading


def test_nothing_is_chosen_where_nothing_is_free() -> None:
    assert taught(1.0, 2.0).choose("step", 1, 1) == 1


def test_both_ways_are_tried_and_the_many_threads_first() -> None:
    spreading, tried = Spreading(), []
    for _ in range(2 * ENOUGH):
        tried.append(spreading.choose("step", 1, 4))
        spreading.learn("step", tried[-1], 1.0)
    assert tried == [4] * ENOUGH + [1] * ENOUGH


def test_the_faster_one_is_kept() -> None:
    assert taught(1.0, 2.0).choose("step", 1, 4) == 4
    assert taught(2.0, 1.0).choose("step", 1, 4) == 1


def test_a_small_gain_is_not_worth_the_cores() -> None:
    assert taught(0.98, 1.0).choose("step", 1, 4) == 1


def test_the_other_one_is_tried_again_now_and_then_and_may_win() -> None:
    spreading = taught(2.0, 1.0)
    chosen = [spreading.choose("step", 1, 4) for _ in range(2 * AGAIN)]
    assert chosen.count(4) == 2
    for _ in range(5):
        spreading.learn("step", 4, 0.5)
    assert spreading.choose("step", 1, 4) == 4


def test_kinds_and_numbers_of_threads_are_apart() -> None:
    spreading = taught(2.0, 1.0)
    assert spreading.choose("decode", 1, 4) == 4
    assert spreading.choose("step", 1, 2) == 2


def test_what_was_not_used_for_long_is_forgotten() -> None:
    spreading = taught(2.0, 1.0)
    for number in range(MAX_KINDS):
        spreading.learn(f"kind {number}", 1, 1.0)
    assert spreading.choose("step", 1, 4) == 4
