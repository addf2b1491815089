"""`python -m roles.rank`: one rank process. Started by its leader and by nobody else.

The thread counts have to stand in the environment before anything imports numpy or torch, so this
file imports neither, and `roles.worker` only once they do.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from roles.lifeline import tie_to

PROGRAM = "roles.split.loading:load"
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TORCHINDUCTOR_COMPILE_THREADS",
)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("roles.rank", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the rank's end of the socketpair")
    parser.add_argument("--pool-fd", type=int, help="the leader's slot pool, if it is on this host")
    parser.add_argument("--parent", type=int, required=True, help="the leader's pid")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--ranks", type=int, default=1, help="of the instance")
    parser.add_argument("--parallel", help="how they divide forwards, see roles.parallel")
    parser.add_argument("--join-fd", type=int, help="where they meet; default: it is alone")
    parser.add_argument("--nnodes", type=int, default=1, help="hosts on which they are")
    parser.add_argument("--rendezvous", metavar="HOST:PORT", help="where they meet, on several")
    parser.add_argument("--life", type=int, help="of this pool of ranks, see roles.nodes")
    parser.add_argument("--keys", metavar="DIR", help="of the cluster, for the rendezvous")
    parser.add_argument("--model", help="where this host has it; default: as the leader says")
    parser.add_argument("--origins", default="{}", metavar="JSON", help="see roles.origins")
    parser.add_argument("--patience", type=float, help="seconds to wait for another rank")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--cores", type=int, default=0, help="shared with other ranks")
    parser.add_argument("--cores-file", metavar="FILE", help="see roles.cores; default: not shared")
    parser.add_argument("--slice", type=float, required=True, help="seconds of denoising at a time")
    parser.add_argument("--device", required=True)
    parser.add_argument("--encoder-cache", type=int, default=0, help="bytes of the encoder's cache")
    parser.add_argument(
        "--program",
        default=PROGRAM,
        metavar="MODULE:FUNCTION",
        help="what loads the model: (model, roles, dtype, device) -> roles.split.program.Program. "
        "For tests; whoever can name another one can already start processes here.",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    options = arguments(argv)
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(options.threads)
    # Idle OpenMP threads that spin take the cores of the other ranks of this host.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    tie_to(options.parent)  # what is imported now takes seconds
    from roles import worker

    return worker.work(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
