"""Which model a request means, and what is said where that cannot be told."""

from typing import Protocol

from orchestrator.http.errors import ApiError, bad_field, not_ready
from transfer.messages import ModelInfo, Role

USUAL = "default"  # what a request may call the model that it gets without naming one


class Served(Protocol):
    """The part of the service that knows the models."""

    def model(self, name: str) -> ModelInfo | None: ...

    def models(self) -> list[ModelInfo]: ...

    def usual_model(self) -> ModelInfo | None: ...

    def missing(self, model: str | None = None) -> list[Role]: ...


def chosen(service: Served, name: str | None) -> ModelInfo:
    """The model of that name; without one, or with `default`, the usual one: what the orchestrator
    was told, or the only one.

    Raises `ApiError`: 404 where there is no such model, 400 where there are several and none was
    named, 503 before the first, or the usual one, has come.
    """
    known = None if name is None else service.model(name)
    if known is not None:
        return known
    if name not in (None, USUAL):
        raise model_not_found(str(name), service)
    usual = service.usual_model()
    if usual is not None:
        return usual
    served = service.models()
    if len(served) > 1:
        message = f"`model` is missing: this server serves {_listed(served)}; name one"
        raise bad_field("model", message, "missing_field")
    raise not_ready(service.missing())


def model_not_found(name: str, service: Served) -> ApiError:
    served = service.models()
    told = f"this server serves {_listed(served)}" if served else "no model is being served yet"
    message = f"there is no model `{name[:128]}`; {told}"
    return ApiError(404, message, param="model", code="model_not_found")


def _listed(served: list[ModelInfo]) -> str:
    *others, last = [f"`{model.name}`" for model in served]
    return f"{', '.join(others)} and {last}" if others else last
