"""Where the ranks of a pool find each other: a piece of memory that only they and the leader have.

Its descriptor is inherited, like that of the slots: there is no port that somebody else could take,
no file to remove, and no address that a rank of an earlier pool could still know.
"""

import os


class Meeting:
    """One for each pool of ranks. `fd` is for the ranks; `close` when they have been started."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("triptych-meeting", os.MFD_CLOEXEC)

    def close(self) -> None:
        """Closes the leader's end; twice is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def path(fd: int) -> str:
    """As a rank opens it anew: a place in the file of its own, and locks of its own."""
    return f"/proc/self/fd/{fd}"
