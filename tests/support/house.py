"""A real orchestrator that can be killed, scripted roles, and a client that asks for jobs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from tests.support.orchestrator_process import OrchestratorProcess, orchestrator
from tests.support.picture_dealer import Trio, trio

DEADLINE_S = 120.0


class House:
    """An orchestrator, scripted roles, and a client."""

    def __init__(
        self, process: OrchestratorProcess, roles: Trio, client: httpx.AsyncClient, state: Path
    ) -> None:
        self.process, self.roles, self.client, self.state = process, roles, client, state

    async def ask(self, seed: int) -> str:
        """A job of one picture, under a key of its own; its id."""
        body = {"prompt": "a red circle", "seed": seed}
        headers = {"Idempotency-Key": f"key of {seed}"}
        reply = await self.client.post("/v1/jobs", json=body, headers=headers)
        assert reply.status_code == 202, reply.text
        return str(reply.json()["id"])

    async def job(self, id: str) -> dict[str, Any]:
        reply = await self.client.get(f"/v1/jobs/{id}")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    async def over(self, id: str) -> dict[str, Any]:
        """The job, as soon as it is over."""
        async with self.client.stream("GET", f"/v1/jobs/{id}/events") as reply:
            async for _ in reply.aiter_lines():
                pass
        return await self.job(id)

    async def stage(self, id: str, stage: str) -> None:
        """Waits until the job is so far."""
        async with self.client.stream("GET", f"/v1/jobs/{id}/events") as reply:
            async for line in reply.aiter_lines():
                if f'"stage":"{stage}"' in line:
                    return
        raise AssertionError("it was over before")

    async def written(self, count: int) -> None:
        """Waits until the journal has so many entries of this life."""
        line = f'triptych_events_total{{event="journal_writes"}} {count:.1f}\n'
        while line not in (await self.client.get("/metrics")).text:
            await asyncio.sleep(0.01)

    async def content(self, id: str) -> bytes:
        reply = await self.client.get(f"/v1/jobs/{id}/content")
        assert reply.status_code == 200, reply.text
        return reply.content

    @property
    def files(self) -> list[str]:
        return [path.name for path in (self.state / "media").iterdir()]


@contextlib.asynccontextmanager
async def house(
    state: Path, serve: bool = True, journal: str | None = None
) -> AsyncIterator[House]:
    fresh = httpx.Limits(max_keepalive_connections=0)  # no connection outlives a kill
    async with (
        orchestrator(state, journal=journal) as process,
        trio(process.control, serve) as roles,
        httpx.AsyncClient(base_url=process.http, timeout=DEADLINE_S, limits=fresh) as client,
        asyncio.timeout(DEADLINE_S),
    ):
        yield House(process, roles, client, state)
