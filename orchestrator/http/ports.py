"""The two things that the front door talks to, as far as it needs to know them.

`Service` is `orchestrator.service.Service`; `MediaSource` hands out finished files, and is
`orchestrator.http.media.MediaGateway`. Tests put small doubles in their places.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

from orchestrator.service import ClusterView, Completed
from transfer.messages import Inputs, Media, ModelInfo, Role


class Service(Protocol):
    """`generate` raises `NotReady`, `Busy`, `Duplicate` or `RequestFailed` of
    `orchestrator.service`; cancelling it cancels the request."""

    async def generate(self, inputs: Inputs, *, request_id: str) -> Completed: ...

    def cluster(self) -> ClusterView: ...

    def model(self) -> ModelInfo | None: ...

    def missing(self) -> list[Role]:
        """The roles of the route without a ready instance; empty when requests can run."""
        ...

    def drain(self, name: str) -> None:
        """Raises `KeyError` for an unknown name, like `remove`."""
        ...

    def remove(self, name: str) -> None: ...

    def counters(self) -> dict[str, int]: ...


class MediaSource(Protocol):
    """Finished files, wherever they lie. `chunks` raises `transfer.errors.MediaError` when a file
    is gone; `release` says that it is no longer needed, and never raises."""

    def chunks(self, media: Media) -> AsyncGenerator[bytes, None]: ...

    async def release(self, media: Media) -> None: ...

    async def close(self) -> None: ...
