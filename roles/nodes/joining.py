"""How a rank on one of several hosts meets the others."""

import argparse
from datetime import timedelta
from pathlib import Path

from roles.nodes.line import endpoint_of
from roles.nodes.network import interface_to
from roles.nodes.store import LeaderStore
from roles.options import split_address
from roles.parallel import Parallel
from roles.rank.world import WAIT_S, RanksApart, World
from transfer.keys import load


def join(options: argparse.Namespace, parallel: Parallel) -> World:
    """Done when all ranks are there. Raises `RanksApart`."""
    host, _ = split_address(options.rendezvous)
    try:
        interface = interface_to(host)
        endpoint = endpoint_of(options.rendezvous)
    except OSError as error:
        raise RanksApart(f"it cannot reach {host}: {error}") from error
    store = LeaderStore(endpoint, options.life, load(Path(options.keys)), timedelta(seconds=WAIT_S))
    here = parallel.ranks // options.nnodes
    return World.join_in(store, options.rank, parallel, options.device, here, interface)
