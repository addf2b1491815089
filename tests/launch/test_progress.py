from launch.client import Client
from launch.progress import StageBars
from tests.support.canned_server import Canned


def view(**in_flight: int) -> dict[str, object]:
    return {"roles": {role: [{"in_flight": count}] for role, count in in_flight.items()}}


def finished(bars: StageBars) -> list[bool]:
    return [bool(task.finished) for task in bars.tasks]


def test_bars_follow_the_role_that_works(canned: Canned) -> None:
    canned.answer("GET /v1/cluster", 200, view(encoder=1, denoiser=0, decoder=0))
    with Client(canned.url) as client, StageBars(client) as bars:
        bars.show(client.cluster()["roles"])
        assert finished(bars) == [False, False, False]
        canned.answer("GET /v1/cluster", 200, view(encoder=0, denoiser=0, decoder=1))
        bars.show(client.cluster()["roles"])
        assert finished(bars) == [True, True, False]
    assert finished(bars) == [True, True, True]


def test_a_cluster_that_is_gone_disturbs_nobody(canned: Canned) -> None:
    canned.answer("GET /v1/cluster", 503, {})
    with Client(canned.url) as client, StageBars(client) as bars:
        assert finished(bars) == [False, False, False]
