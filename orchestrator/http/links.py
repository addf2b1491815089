"""`GET /v1/media/{id}`: the files that clients have links to."""

import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from orchestrator.http.errors import ApiError
from orchestrator.http.shelf import Kept, Shelf
from transfer.threads import in_thread


class Links:
    """Whoever has the id may read. Files on this machine are served with ranges (a video player
    asks for them); what lies elsewhere is streamed as a whole."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def fetch(self, request: Request) -> Response:
        kept = self._shelf.find(request.path_params["id"])
        if kept is None:
            raise _gone()
        path = self._shelf.store.local_path(kept.key)
        return await _local(kept, path) if path else self._remote(kept, request.method)

    def _remote(self, kept: Kept, method: str) -> Response:
        headers = {**_headers(), "content-length": str(kept.nbytes), "accept-ranges": "none"}
        if method == "HEAD":
            return Response(headers=headers, media_type=kept.mime)
        chunks = self._shelf.store.chunks(kept.key)
        return StreamingResponse(chunks, headers=headers, media_type=kept.mime)


async def _local(kept: Kept, path: Path) -> Response:
    try:
        stat = await in_thread(os.stat, path)
    except FileNotFoundError:
        raise _gone() from None
    return FileResponse(path, headers=_headers(), media_type=kept.mime, stat_result=stat)


def _headers() -> dict[str, str]:
    return {
        "cache-control": "private, max-age=3600, immutable",
        "content-disposition": "inline",
        "x-content-type-options": "nosniff",
    }


def _gone() -> ApiError:
    message = "there is no such file here; links expire some time after the generation"
    return ApiError(404, message, code="media_not_found")
