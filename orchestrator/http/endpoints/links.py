"""`GET /v1/media/{id}`: the files that clients have links to."""

from starlette.requests import Request
from starlette.responses import Response

from orchestrator.http.errors import ApiError
from orchestrator.http.media.download import Download
from orchestrator.http.media.shelf import Shelf


class Links:
    """Whoever has the id may read."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def fetch(self, request: Request) -> Response:
        kept = self._shelf.find(request.path_params["id"])
        if kept is None:
            raise _gone()
        store = self._shelf.store
        file = Download(kept.mime, kept.nbytes, store.local_path(kept.key))
        try:
            return await file.response(request.method, lambda: store.chunks(kept.key))
        except FileNotFoundError:
            raise _gone() from None


def _gone() -> ApiError:
    message = "there is no such file here; links expire some time after the generation"
    return ApiError(404, message, code="media_not_found")
