import logging

import pytest

from orchestrator.complaints import Complaints


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    caplog.set_level(logging.INFO)
    return logging.getLogger("test")


def test_one_line_of_a_kind(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(log)
    for _ in range(1000):
        complaints.add("garbage", "\n\x00evil")
        complaints.add("old version", "7")
        complaints.flush()
    assert [record.message for record in caplog.records] == [
        "garbage: \\n\\x00evil",
        "old version: 7",
    ]


def test_the_rest_is_told_together(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(log, every_s=0.0)
    for detail in ("first", "second", "third"):
        complaints.add("garbage", detail)
    complaints.flush()
    complaints.flush()
    assert caplog.records[-1].message == "garbage: 2 times more, last: third"
    assert len(caplog.records) == 2
