import pytest

from orchestrator.core.slots import Borrowed, Lease, SlotError, SlotTable


@pytest.fixture
def table() -> SlotTable:
    return SlotTable(4, 1024)


@pytest.fixture
def lease(table: SlotTable) -> Lease:
    return table.lend(1, "a", 1, 3, Borrowed(1))


def _counts(table: SlotTable) -> tuple[int, int, int]:
    assert table.complaints() == []
    return table.free, table.leased, table.quarantined


def test_every_slot_is_in_one_place(table: SlotTable, lease: Lease) -> None:
    assert _counts(table) == (1, 3, 0)
    lease.deliver(3000, 7)
    assert _counts(table) == (1, 3, 0)
    lease.release()
    assert _counts(table) == (4, 0, 0)


def test_quarantined_slots_are_neither_free_nor_leased(table: SlotTable, lease: Lease) -> None:
    lease.quarantine()
    assert _counts(table) == (1, 0, 3)
    lease.release()
    assert _counts(table) == (4, 0, 0)


def test_sender_is_done_when_it_delivered(lease: Lease) -> None:
    assert lease.sender == {1: lease}
    lease.deliver(10, 7)
    assert lease.sender == {}


def test_need_rounds_up(table: SlotTable) -> None:
    assert [table.need(n) for n in (0, 1, 1024, 1025, 4096)] == [1, 1, 1, 2, 4]


def test_more_than_is_free_is_refused(table: SlotTable, lease: Lease) -> None:
    with pytest.raises(SlotError, match="2 slots for b, 1 free"):
        table.lend(2, "b", 1, 2, Borrowed(1))


def test_freeing_twice_is_an_error(lease: Lease) -> None:
    lease.release()
    with pytest.raises(SlotError, match="free → free"):
        lease.release()


def test_delivery_into_quarantined_slots_is_an_error(lease: Lease) -> None:
    lease.quarantine()
    with pytest.raises(SlotError, match="quarantined → delivered"):
        lease.deliver(1, 1)
