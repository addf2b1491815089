"""`make test` tries some faults, each at one place; `make chaos` all of them, at every place."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EVERYTHING = os.environ.get("CHAOS") == "all"
SAMPLE = {
    "test_everybody_is_served_while_strangers_come",
    "test_it_survives_that_there_are_no_descriptors_left",
    "test_f9_i3_i4_nothing_is_left_of_a_storm_of_requests_and_kills",
    "test_f10_t1_a_payload_that_is_not_what_was_sent_is_never_computed_on",
}
"""What `make test` runs, with one of the parameters each."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if EVERYTHING:
        return
    tried: set[str] = set()
    kept, left_out = [], []
    for item in items:
        name = getattr(item, "originalname", item.name)
        ours = item.path.parent == HERE
        (left_out if ours and (name in tried or name not in SAMPLE) else kept).append(item)
        tried.add(name)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
