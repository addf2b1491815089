"""How clients reach this server, for the links that they get."""

from starlette.requests import Request

from orchestrator.http.options import HttpOptions


def base_url(request: Request, options: HttpOptions) -> str:
    """`https://pictures.example`, without a slash at its end."""
    return (options.public_url or str(request.base_url)).rstrip("/")
