"""F16: somebody sets the clock. What is leased, missed or late is counted on a clock that nobody
sets; the calendar is only shown."""

import asyncio
import itertools
import re
import time
from pathlib import Path

import pytest

from orchestrator.control import Control, configure
from orchestrator.options import OrchestratorOptions
from orchestrator.service import Completed, Service
from tests.support.bench import INPUTS
from tests.support.scripted_dealer import dealers
from transfer.messages import SPLIT_ROUTE

ROOT = Path(__file__).parents[2]
DAY_S = 86_400.0
CALENDAR = re.compile(
    r"\btime\.time(_ns)?\(|\bdatetime\.(now|utcnow|today)\b|\blocaltime\("
    r"|\bcreate_time\("
)
SHOWN = {  # where a date is shown to people, kept by the day, or compared with a file's
    "orchestrator/http",
    "orchestrator/jobs",
}


async def test_f16_a_clock_that_jumps_by_days_loses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    jumps, real = itertools.cycle([DAY_S, -DAY_S, 30 * DAY_S, -365 * DAY_S]), time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    control = Control(configure(OrchestratorOptions()))
    control.bind("tcp://127.0.0.1:0")
    running = asyncio.create_task(control.run())
    service = Service(control, 60.0)
    try:
        async with dealers(control.endpoint, *SPLIT_ROUTE):
            for number in range(50):
                done = await service.generate(INPUTS, request_id=f"r{number}")
                assert isinstance(done, Completed)
                assert 0.0 <= done.timings.total_s < DAY_S
            assert control.counters.get("instances_lost", 0) == 0
            assert control.counters.get("attempts_failed", 0) == 0
    finally:
        running.cancel()
        await asyncio.wait({running})
        control.close()


def test_f16_no_lease_deadline_or_heartbeat_reads_the_calendar() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("orchestrator", "roles", "transfer")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if SHOWN.isdisjoint(map(str, path.relative_to(ROOT).parents))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if CALENDAR.search(line)
    ]
    assert found == []
