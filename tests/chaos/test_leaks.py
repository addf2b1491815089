"""F9: a storm of requests among random kills, and then everything is exactly as it was before.

`make leaks` does the same with 20,000 requests.
"""

from pathlib import Path

from tests.support.leak_hunt import hunt

REQUESTS, KILLS = 2000, 6


async def test_f9_i3_i4_nothing_is_left_of_a_storm_of_requests_and_kills(tmp_path: Path) -> None:
    made = await hunt(tmp_path / "state", REQUESTS, KILLS)
    assert sum(made.told.values()) >= REQUESTS
    assert made.kills["leaders"] == 2
    assert made.kills["ranks"] >= 3
