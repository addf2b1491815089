"""The descriptors that our own code could have left open."""

import os

PIDFD = "anon_inode:[pidfd]"
Descriptor = tuple[int, str, int]  # number, what it is, inode


def held_open() -> frozenset[Descriptor]:
    """Open files, shared memory and pidfds of this process.

    To be compared with `<=`: what tests that ran before have left to the garbage collector may be
    closed at any moment. Sockets, pipes and event descriptors are left out: event loops and ZeroMQ
    contexts open and close theirs whenever they like.
    """
    found = (_look(int(fd)) for fd in os.listdir("/proc/self/fd"))
    return frozenset(each for each in found if each is not None)


def _look(fd: int) -> Descriptor | None:
    try:
        target, inode = os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd).st_ino
    except OSError:  # the one that listed them
        return None
    ours = target.startswith("/") or target == PIDFD
    return (fd, target, inode) if ours else None
