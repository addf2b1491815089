"""A rank never outlives its leader, however that one ends."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def tie_to(parent: int) -> None:
    """The kernel kills this process when `parent` ends. Ends it now if that has happened already.

    (prctl(2), PR_SET_PDEATHSIG. It looks at the parent's *thread* that started this process: a
    leader starts its ranks from the thread that runs its event loop, which ends last.)
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit(1)
