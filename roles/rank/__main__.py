"""`python -m roles.rank`: one rank process. Started by its leader and by nobody else.

The thread counts have to stand in the environment before anything imports numpy or torch, so this
file imports neither, and `roles.rank.worker` only once they do.
"""

import os
import sys
from collections.abc import Sequence

from roles.lifeline import tie_to
from roles.rank.arguments import arguments

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TORCHINDUCTOR_COMPILE_THREADS",
)


def main(argv: Sequence[str]) -> int:
    options = arguments(argv)
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(options.threads)
    # Idle OpenMP threads that spin take the cores of the other ranks of this host.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    tie_to(options.parent)  # what is imported now takes seconds
    from roles.rank import worker

    return worker.work(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
