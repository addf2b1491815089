"""A finished file, and where it lies."""

from typing import Literal

from transfer.codec import Record
from transfer.made import Made

DecodedIn = Literal["slices", "tiles"] | None


class LocalFile(Record, frozen=True):
    """A file that a process holds open, which one of the same user on the same host can open as
    /proc/PID/fd/FD.

    `badge`: another descriptor of that process, which is named after `nonce`; whoever opens the
    file compares, so a recycled pid or another host's pid is never mistaken for the owner. The
    rest says which file it is, so neither is a recycled descriptor, nor one that was written to.
    """

    pid: int
    fd: int
    badge: int
    nonce: str
    device: int
    inode: int
    modified_ns: int


class Media(Record, frozen=True):
    """One finished file, and what is in it. It lies at the instance that made it (read over the
    media channel at `endpoint`, or on the same host as `local` says, then released), or, if
    `store_key` is set, in the media store.

    `decoded_in`: not in one, for want of memory or to share it out; tiles change pixels. `seed`:
    what it was made with.
    """

    id: str
    made: Made
    mime: str
    nbytes: int
    endpoint: str | None = None
    store_key: str | None = None
    local: LocalFile | None = None
    speed: str | None = None  # what made it faster and its pixels other ones, for people
    decoded_in: DecodedIn = None
    seed: int | None = None
