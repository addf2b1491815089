"""How many connections the process may hold: one descriptor each."""

import resource

CONNECTIONS = 16_384


def allow_connections(wanted: int = CONNECTIONS) -> int:
    """Raises the soft limit (often 1,024) to what is wanted, as far as the hard one permits; one
    that is higher stays. Returns the limit.

    Strangers at the control port hold a descriptor for the three seconds of their handshake, so few
    of them would take those of clients and roles. And it is a bound: what is not accepted waits in
    the kernel. (ZMQ_MAX_SOCKETS is another matter: it counts sockets, of which there are few, and
    not their connections.)
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most, soft)
