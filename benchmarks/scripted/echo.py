"""What ZeroMQ takes for the way of one request: python -m benchmarks.scripted.echo ENDPOINT sends
back what it is sent. `round_trips` is the other side.

From the orchestrator to a role and back, three times, each time one message of a usual size, with
nothing done to it in between. It is what of a request's latency is not ours.
"""

import statistics
import subprocess
import sys
import time

import zmq

MESSAGE = b"x" * 400
ROLES = 3


def round_trips(seconds: float) -> float:
    """Median milliseconds of three round trips, one after the other."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    command = [sys.executable, "-m", "benchmarks.scripted.echo", f"tcp://127.0.0.1:{port}"]
    with subprocess.Popen(command) as other:
        try:
            connection, _ = router.recv_multipart()
            return _measure(router, connection, seconds)
        finally:
            other.terminate()
            context.destroy(linger=0)


def _measure(router: "zmq.Socket[bytes]", connection: bytes, seconds: float) -> float:
    taken = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        for _ in range(ROLES):
            router.send_multipart([connection, MESSAGE])
            router.recv_multipart()
        taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken)


def echo(endpoint: str) -> None:
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.connect(endpoint)
    dealer.send(b"here")
    while True:
        dealer.send(dealer.recv())


if __name__ == "__main__":
    echo(sys.argv[1])
