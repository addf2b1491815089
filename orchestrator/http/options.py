"""What the front door can be told when it starts."""

import msgspec


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds and places of the front door. Seconds, bytes, pixels.

    `public_url` is what clients can reach us by (`https://pictures.example`); without it the
    `Host` that a client sent is put into the links that it gets.
    """

    max_body_bytes: int = 1 << 20  # 32,000 characters, each escaped as \\uXXXX, are 0.4 MB
    max_upload_bytes: int = 64 << 20  # of a body with files in it
    body_s: float = 60.0  # a body that has not come by then is not waited for
    max_pixels: int = 1 << 23  # of one picture or frame; 3840x2160 fits
    max_video_pixels: int = 1 << 29  # width x height x frames; 582 frames of 1280x720 fit
    stall_s: float = 60.0  # a client that takes nothing for so long is cut off
    media_store: str | None = None  # a folder or an fsspec URL; None: a private folder
    media_ttl_s: float = 3600.0  # how long a link that we gave out works
    media_bytes: int = 2 << 30  # of all kept files together; the oldest make room
    public_url: str | None = None
    request_timeout_s: float = 600.0  # what a picture of a job may take
    ping_s: float = 15.0  # between two signs of life on a stream of events
    job_ttl_s: float = 86_400.0  # for how long finished jobs are kept, as the jobs were told
    api_keys: str | None = None  # a file of hashes; None: everybody may come in
    supervisor_key: str | None = None  # the hash of one more key; it has an effect with api_keys
    rate_limit: str | None = None  # of requests that make work, by caller: "60/minute"
