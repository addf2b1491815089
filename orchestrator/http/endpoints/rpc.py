"""`POST /v1/cluster/rpc`: something that is asked of every rank, and what every rank made of it."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.core.commands import Answers, InstanceAnswer
from orchestrator.http.endpoints.pages import json_response
from orchestrator.http.errors import ApiError, bad_field, retry_after
from orchestrator.http.options import HttpOptions
from orchestrator.http.ports import Operator
from orchestrator.http.request.body import read_body
from orchestrator.http.request.decoding import explain
from orchestrator.operator import (
    Conflict,
    NotAlone,
    SeveralModels,
    TooManyQuestions,
    UnknownAdapter,
    UnknownComponent,
    UnknownTarget,
)
from transfer.actions import METHODS, Action, Told
from transfer.messages import InstanceState
from transfer.results import RankError

MAX_S = 3600.0


class RpcRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/cluster/rpc`."""

    target: Annotated[str, Meta(description="A role, the name of an instance, or all.")]
    method: Annotated[str, Meta(description=f"One of {', '.join(METHODS)}.")]
    args: Annotated[dict[str, Any] | None, Meta(description="What the method takes.")] = None
    model: Annotated[
        str | None,
        Meta(description="Only its instances. Adapters and weights are of one model."),
    ] = None
    timeout_s: Annotated[
        Annotated[float, Meta(gt=0, le=MAX_S)] | None,
        Meta(description="Seconds until there is an answer, whoever stays silent. Default 30."),
    ] = None


class RpcError(msgspec.Struct, frozen=True):
    """`type`: of the exception, or RankDied, RankSilent, PoolStarting, PoolFailed, PoolClosing,
    InstanceClosing, InstanceLost, InstanceSilent, unsupported. `traceback`: of the rank, where its
    code raised."""

    type: str
    message: str
    traceback: str | None = None


class RpcRank(msgspec.Struct, frozen=True):
    ok: bool
    value: Told | None
    error: RpcError | None
    pid: int
    host: str
    seconds: float


class RpcInstance(msgspec.Struct, frozen=True):
    """`error`: why the instance as a whole gave no answer."""

    ok: bool
    state: InstanceState
    ranks: dict[str, RpcRank]
    error: RpcError | None


class RpcReply(msgspec.Struct, frozen=True):
    """`ok`: every rank of every instance did it. `undone`: of a change that some did and others did
    not: by now nobody has; false: who could not go back begins anew, and gets no work before; null:
    it is not known yet, or there was nothing to undo."""

    ok: bool
    method: str
    instances: dict[str, RpcInstance]
    undone: bool | None = None


class Rpc:
    """The handler. A call that failed somewhere is an answer, with `ok` false, not an error."""

    def __init__(self, operator: Operator, options: HttpOptions) -> None:
        self._operator, self._options = operator, options

    async def call(self, request: Request) -> Response:
        options = self._options
        asked = _decoded(await read_body(request, options.max_body_bytes, options.body_s))
        action = action_of(asked)
        try:
            limit_s = asked.timeout_s or 30.0
            told = await self._operator.ask(asked.target, action, limit_s, asked.model)
        except UnknownTarget as error:
            raise _unknown(asked, error) from None
        except SeveralModels as error:
            message = f"`model` is missing: {error}; name one"
            raise bad_field("model", message, "missing_field") from None
        except NotAlone as error:
            raise bad_field("target", f"`target`: {error}", "not_alone") from None
        except UnknownAdapter as error:
            raise bad_field("args", f"`args`: {error}", "unknown_adapter") from None
        except UnknownComponent as error:
            raise bad_field("args", f"`args`: {error}", "unknown_component") from None
        except Conflict as error:
            raise ApiError(409, str(error), param="args", code="adapter_exists") from None
        except TooManyQuestions:
            message = "too many calls wait for answers; try again after the time in Retry-After"
            headers = retry_after(1.0)
            raise ApiError(429, message, code="too_many_calls", headers=headers) from None
        return json_response(reply_of(asked.method, told))


def action_of(asked: RpcRequest) -> Action:
    """Raises a 400 that says which methods there are, or what the method takes."""
    kind = METHODS.get(asked.method)
    if kind is None:
        message = f"`method`: there is no {asked.method[:64]!r}; there are {', '.join(METHODS)}"
        raise bad_field("method", message, "unknown_method")
    args = asked.args or {}
    fields = [field.name for field in msgspec.structs.fields(kind)]
    takes = f"{asked.method} takes {', '.join(fields) or 'none'}"
    for name in args:
        if name not in fields:
            message = f"`args`: there is no {name[:64]!r}; {takes}"
            raise bad_field("args", message, "unknown_field")
    try:
        return msgspec.convert(args, kind)
    except msgspec.ValidationError as error:
        raise bad_field("args", f"`args`: {str(error)[:200]}; {takes}") from None


def reply_of(method: str, told: Answers) -> RpcReply:
    ok = all(answer.ok for answer in told.instances.values())
    instances = {name: _instance(answer) for name, answer in told.instances.items()}
    return RpcReply(ok, method, instances, told.undone)


def _instance(answer: InstanceAnswer) -> RpcInstance:
    ranks = {
        str(rank.rank): RpcRank(
            rank.ok, rank.value, _error(rank.error), rank.pid, rank.host, round(rank.seconds, 6)
        )
        for rank in answer.result.results
    }
    return RpcInstance(answer.ok, answer.state, ranks, _error(answer.error))


def _error(error: RankError | None) -> RpcError | None:
    return None if error is None else RpcError(error.type, error.message, error.traceback)


def _decoded(body: bytes) -> RpcRequest:
    try:
        return msgspec.json.decode(body, type=RpcRequest)
    except msgspec.ValidationError as error:
        raise explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_field(None, f"the body is not JSON: {error}", "invalid_json") from None


def _unknown(asked: RpcRequest, error: UnknownTarget) -> ApiError:
    target = f"{asked.target[:128]!r}"
    known = "; ".join(f"{role}: {', '.join(names)}" for role, names in error.roles.items())
    if asked.model is not None:
        target = f"{asked.target[:128]!r} of model {asked.model[:128]!r}"
    message = f"`target`: there is no live instance of {target}; there are {known or 'none'}"
    return ApiError(404, message, param="target", code="target_not_found")
