"""From any exception to the error that the client is told, and the log that keeps the rest."""

import logging

from orchestrator.http.errors import ApiError, busy, failed, key_reused, not_ready, not_written
from orchestrator.http.media.reading import WrongLength
from orchestrator.jobs.model import JournalDown, KeyConflict
from orchestrator.service import Busy, Duplicate, NotReady, RequestFailed
from transfer.errors import MediaError
from transfer.messages import ErrorInfo

log = logging.getLogger(__name__)


def to_api_error(error: Exception, request_id: str) -> ApiError:
    """What to tell the client. Tracebacks and unforeseen errors only go to the log."""
    match error:
        case ApiError():
            return error
        case RequestFailed():
            return _request_failed(error.error, request_id)
        case Busy():
            return busy(error.retry_after_s)
        case NotReady():
            return not_ready(error.missing, error.asleep, error.model)
        case Duplicate():
            return ApiError(409, str(error), code="duplicate")
        case KeyConflict():
            return key_reused(error.id)
        case JournalDown():
            log.error("%s: %s", request_id, error)
            return not_written(error.reason)
        case MediaError() | WrongLength():
            return _media_lost(error, request_id)
    log.error("%s: unforeseen", request_id, exc_info=error)
    return ApiError(500, f"internal error; the server's log tells more of {request_id}")


def _request_failed(error: ErrorInfo, request_id: str) -> ApiError:
    told = failed(error)
    if told.status >= 500:
        log.error("%s: %s: %s", request_id, error.kind, told.message)
    if error.traceback:
        log.error("%s: traceback of %s:\n%s", request_id, error.instance, error.traceback)
    return told


def _media_lost(error: Exception, request_id: str) -> ApiError:
    log.error("%s: a finished file cannot be read: %s", request_id, error)
    message = f"the picture was made, but its file can no longer be read: {error}"
    return ApiError(503, message, code="media_lost")
