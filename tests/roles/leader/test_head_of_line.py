"""4 long requests, and right behind them 36 short ones: the trace of `benchmarks.mixed_load`, with
what its steps took on a core of a virtual machine."""

import statistics
from collections.abc import Sequence

import pytest

from benchmarks.queueing import Denoiser, MeasuredRanks, head_of_line

SECONDS = {
    64: {1: 0.0119, 2: 0.0163, 3: 0.0200, 4: 0.0207},
    256: {1: 0.0446, 2: 0.0662, 3: 0.0912, 4: 0.1319},
}


def served(schedule: str, seconds: dict[int, dict[int, float]]) -> tuple[Sequence[float], float]:
    """Latencies in order, and when all was done."""
    denoiser = Denoiser(schedule, MeasuredRanks(seconds))
    found = sorted(latency for _, latency in denoiser.run(head_of_line()))
    assert len(found) == 40
    return found, denoiser.clock


def p95(latencies: Sequence[float]) -> float:
    return statistics.quantiles(latencies, n=100, method="inclusive")[94]


def test_the_shortest_first_halves_the_tail_and_keeps_the_throughput() -> None:
    """The long ones come last and two by two; so all but two end before half of their work is
    done, although forwards are shared in both schedules."""
    (fifo, fifo_end), (sjf, sjf_end) = served("fifo", SECONDS), served("sjf", SECONDS)
    assert p95(fifo) >= 1.5 * p95(sjf)
    assert statistics.median(fifo) >= 4 * statistics.median(sjf)
    assert sjf_end <= 1.02 * fifo_end


@pytest.mark.parametrize("each", [0.4, 0.6, 0.8, 1.0])
def test_nothing_is_lost_where_sharing_pays_more_or_less(each: float) -> None:
    """`each`: a request's seconds among four, as a share of its seconds alone."""
    shared = {k: k * (1 - (1 - each) * (k - 1) / 3) for k in (1, 2, 3, 4)}
    seconds = {side: {k: 0.01 * side / 64 * s for k, s in shared.items()} for side in (64, 256)}
    fifo, sjf = served("fifo", seconds)[0], served("sjf", seconds)[0]
    assert p95(sjf) <= 1.05 * p95(fifo)
    assert statistics.mean(sjf) < statistics.mean(fifo)
