"""Whether a model makes what is asked for: pictures, videos or sounds. Pure."""

from orchestrator.http.errors import bad_field, unsupported
from orchestrator.http.request.schema import AudioRequest, ImageRequest, JobRequest, VideoRequest
from transfer.messages import ModelInfo

MADE = {"image": "pictures", "video": "videos", "audio": "sounds"}


def check_kind(asked: ImageRequest, model: ModelInfo) -> None:
    """Raises a 400 or 422 for what is asked for under a name that it has not here."""
    makes = f"`{model.name}` makes {MADE[model.modality]}"
    wanted = asked.type if isinstance(asked, JobRequest) else None
    if wanted is not None and wanted != model.modality:
        raise unsupported("type", f"`type`: {makes}, and no {MADE[wanted]}")
    if isinstance(asked, AudioRequest) and model.modality != "audio":
        raise unsupported("model", f"{makes}, and no sounds")
    if not isinstance(asked, VideoRequest):
        return
    if model.modality != "video":
        raise unsupported("model", f"{makes}, and no videos")
    for name in ("n", "response_format"):
        if getattr(asked, name) is not None and getattr(asked, name) != 1:
            raise bad_field(name, f"`{name}`: not for videos; leave it out")
