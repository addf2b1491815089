"""`make test` tries some faults, each at one place; `make chaos` all of them, at every place."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EVERYTHING = os.environ.get("CHAOS") == "all"
WHOLE = {"test_hostile_bytes.py"}
"""Of these files, `make test` runs everything: they are quick."""
SAMPLE = {
    "test_f1_t6_a_role_killed_while_it_computes",
    "test_i8_f18_a_poison_request_costs_three_workers_and_is_told_why",
    "test_f9_i3_i4_nothing_is_left_of_a_storm_of_requests_and_kills",
    "test_f15_t15_a_rolling_restart_under_load_fails_nothing",
    "test_f10_t1_a_payload_that_is_not_what_was_sent_is_never_computed_on",
    "test_a_decoder_killed_while_it_decodes_a_preview",
}
"""Of the others, these, with one of their parameters."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if EVERYTHING:
        return
    tried: set[str] = set()
    kept, left_out = [], []
    for item in items:
        name = getattr(item, "originalname", item.name)
        ours = item.path.parent == HERE and item.path.name not in WHOLE
        (left_out if ours and (name in tried or name not in SAMPLE) else kept).append(item)
        tried.add(name)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
