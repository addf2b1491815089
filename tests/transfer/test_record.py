"""Records give the access that model outputs give."""

import pytest

from transfer.record import Record


def test_access() -> None:
    record = Record(sample=1, loss=None, extra="x")
    assert (record.sample, record.loss, record.extra) == (1, None, "x")
    assert (record["sample"], record[0], record[1], record[-1]) == (1, 1, "x", "x")
    assert record[:1] == (1,)
    assert record.to_tuple() == (1, "x")
    assert list(record) == ["sample", "extra"]
    assert len(record) == 2
    assert "loss" not in record
    assert record.get("loss", 5) == 5
    assert dict(record.items()) == {"sample": 1, "extra": "x"}


def test_what_is_not_there() -> None:
    record = Record(sample=1)
    for key in ("loss", "to_tuple"):
        with pytest.raises(KeyError):
            record[key]
    with pytest.raises(IndexError):
        record[1]
    with pytest.raises(AttributeError):
        record.latents  # noqa: B018


def test_fields_can_be_set_and_may_be_called_like_methods() -> None:
    record = Record(keys="k")
    record.values = "v"
    assert (record.keys, record["values"]) == ("k", "v")
    assert repr(record) == "Record(keys='k', values='v')"
