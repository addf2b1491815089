from launch.timings import in_order


def test_parts_come_in_the_order_of_a_request() -> None:
    shown = in_order({"total_s": 3.0, "decoder_s": 1.0, "new_s": 0.5, "queue_s": 0.0})
    assert list(shown.items()) == [("queue", 0.0), ("decoder", 1.0), ("total", 3.0), ("new", 0.5)]
