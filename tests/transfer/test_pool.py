"""The slot pool: its memory, its refusals, and the book-keeping of the outbox."""

import errno
import gc
import mmap
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.descriptors import held_open
from transfer import memory
from transfer.errors import PayloadTooLarge, PoolError
from transfer.pool import PAGE_BYTES, SEALS, Outbox, SlotPool

PAGE = PAGE_BYTES


@pytest.fixture
def pool():
    with SlotPool.create(3, PAGE, 2) as made:
        yield made


def test_inbox_and_outbox_are_numbered_through(pool: SlotPool) -> None:
    for slot in range(5):
        pool.segments([slot])[0][:4] = bytes([slot] * 4)
    assert [pool.view[PAGE + slot * PAGE] for slot in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="of a pool that has 5"):
        pool.segments([5])


def test_segments_cover_exactly_the_payload(pool: SlotPool) -> None:
    assert [len(s) for s in pool.segments([0, 1], PAGE + 1)] == [PAGE + 1]
    assert [len(s) for s in pool.segments([2, 0], PAGE + 1)] == [PAGE, 1]
    assert [len(s) for s in pool.segments([2, 0])] == [PAGE, PAGE]


def test_slots_are_whole_pages() -> None:
    with SlotPool.create(1, 1, 0) as pool:
        assert pool.slot_bytes == PAGE


def test_an_attached_pool_is_the_same_memory(pool: SlotPool) -> None:
    with SlotPool.attach(os.dup(pool.fd)) as other:
        assert (other.slots, other.slot_bytes, other.outbox_slots) == (3, PAGE, 2)
        assert other.nonce == pool.nonce
        other.segments([4])[0][:5] = b"hello"
        assert bytes(pool.segments([4], 5)[0]) == b"hello"


def test_an_inherited_descriptor_is_enough(pool: SlotPool) -> None:
    code = (
        "import sys; from transfer.pool import SlotPool; "
        "SlotPool.attach(int(sys.argv[1])).segments([1])[0][:4] = b'rank'"
    )
    subprocess.run([sys.executable, "-c", code, str(pool.fd)], pass_fds=[pool.fd], check=True)
    assert bytes(pool.segments([1], 4)[0]) == b"rank"


def test_a_child_that_did_not_inherit_cannot_attach(pool: SlotPool) -> None:
    code = "import os, sys; os.fstat(int(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(pool.fd)], stderr=subprocess.DEVNULL)
    assert done.returncode != 0


def test_nonces_differ() -> None:
    with SlotPool.create(1, PAGE, 0) as one, SlotPool.create(1, PAGE, 0) as two:
        assert one.nonce != two.nonce


def test_nobody_can_resize_it(pool: SlotPool) -> None:
    for size in (0, pool.nbytes + PAGE):
        with pytest.raises(PermissionError):
            os.ftruncate(pool.fd, size)


def test_the_address_tells_where_the_slots_are(pool: SlotPool) -> None:
    address = pool.address()
    assert (address.slots, address.slot_bytes, address.offset) == (3, PAGE, PAGE)
    assert address.shm is not None
    assert (address.shm.pid, address.shm.nbytes) == (os.getpid(), PAGE * 6)
    segment = os.open(f"/proc/{address.shm.pid}/fd/{address.shm.fd}", os.O_RDONLY)
    assert os.pread(segment, 16, 0) == address.shm.nonce
    os.close(segment)


@pytest.mark.parametrize("sizes", [(0, PAGE, 0), (1, 0, 0), (1, PAGE, -1), (-1, PAGE, 4)])
def test_sizes_that_make_no_pool(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(PoolError):
        SlotPool.create(*sizes)


def test_more_than_the_machine_has_is_refused_before_it_is_taken() -> None:
    with pytest.raises(PoolError, match=r"1 TiB of memory: .* are free; lower --slots"):
        SlotPool.create(1, (1 << 40) - PAGE, 0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM, errno.EFBIG])
def test_a_full_machine_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    before = held_open()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(PoolError, match=errno.errorcode[code]):
        SlotPool.create(1, PAGE, 0)
    assert held_open() <= before


def test_the_last_tenth_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10 * PAGE)
    with pytest.raises(PoolError, match="40 KiB are free"):
        SlotPool.create(9, PAGE, 0)
    SlotPool.create(8, PAGE, 0).close()


def test_a_full_machine_for_real() -> None:
    """A process that may make files of 1 MiB only gets EFBIG from the kernel itself."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "from transfer.pool import SlotPool, PoolError\n"
        "try: SlotPool.create(2, 1 << 20, 0)\n"
        "except PoolError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the slots need 2.004 MiB of memory" in done.stdout


def test_other_descriptors_are_no_pool() -> None:
    for make in (lambda: os.memfd_create("x"), lambda: os.open("/dev/null", os.O_RDWR)):
        fd = make()
        with pytest.raises(PoolError, match="not a slot pool"):
            SlotPool.attach(fd)
        os.close(fd)


def test_a_pool_with_a_wrong_geometry_is_refused() -> None:
    import fcntl

    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(fd, b"n" * 16 + (1 << 60).to_bytes(8, "little") * 3)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    with pytest.raises(PoolError, match="not a slot pool"):
        SlotPool.attach(fd)
    os.close(fd)


def test_closing_gives_everything_back() -> None:
    gc.collect()
    before, shared = held_open(), len(os.listdir("/dev/shm"))
    for _ in range(3):
        pool = SlotPool.create(4, PAGE, 4)
        pool.close()
        pool.close()
    assert held_open() <= before
    assert len(os.listdir("/dev/shm")) == shared


def test_views_outlive_the_pool() -> None:
    pool = SlotPool.create(1, PAGE, 0)
    view = pool.segments([0])[0]
    pool.close()
    view[:4] = b"safe"
    assert bytes(view[:4]) == b"safe"


def test_the_base_is_where_it_is_mapped(pool: SlotPool) -> None:
    import ctypes

    assert ctypes.string_at(pool.base, 16) == pool.nonce
    assert pool.base % mmap.PAGESIZE == 0


# ---------------------------------------------------------------- the outbox


def test_an_outbox_gives_neighbours_where_there_are() -> None:
    with SlotPool.create(2, PAGE, 6) as pool:
        outbox = Outbox(pool)
        a, b = outbox.allocate(PAGE), outbox.allocate(2 * PAGE)
        assert (a, b) == ([2], [3, 4])
        outbox.free([2])
        assert outbox.allocate(2 * PAGE) == [5, 6]
        assert outbox.allocate(2 * PAGE) == [2, 7]
        assert outbox.allocate(1) is None


def test_an_outbox_refuses_what_never_fits(pool: SlotPool) -> None:
    outbox = Outbox(pool)
    assert outbox.limit == 2 * PAGE
    with pytest.raises(PayloadTooLarge, match=f"{2 * PAGE + 1} bytes, {2 * PAGE} fit"):
        outbox.allocate(2 * PAGE + 1)


@pytest.mark.parametrize("slots", [[0], [4], [3, 3], [9]])
def test_an_outbox_takes_back_only_what_it_gave(pool: SlotPool, slots: list[int]) -> None:
    outbox = Outbox(pool)
    assert outbox.allocate(1) == [3]
    with pytest.raises(ValueError, match="not allocated"):
        outbox.free(slots)
    outbox.free([3])
    assert outbox.free_slots == 2


@given(st.lists(st.integers(1, 4 * PAGE), max_size=30), st.randoms())
def test_an_outbox_never_gives_a_slot_twice(sizes: list[int], random) -> None:
    with SlotPool.create(1, PAGE, 8) as pool:
        outbox = Outbox(pool)
        held: list[list[int]] = []
        for nbytes in sizes:
            if slots := outbox.allocate(nbytes):
                assert len(slots) == -(-nbytes // PAGE)
                held.append(slots)
            else:
                outbox.free(held.pop(random.randrange(len(held))))
            taken = [slot for slots in held for slot in slots]
            assert len(taken) == len(set(taken))
            assert outbox.free_slots == 8 - len(taken)
        for slots in held:
            outbox.free(slots)
        assert outbox.free_slots == 8
