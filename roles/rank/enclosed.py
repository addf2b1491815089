"""What came with a request, as pictures, films and sounds. Runs in the rank."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from roles.calls import InputFile
from roles.split.program import BadInput
from transfer import films, pictures, sounds
from transfer.errors import PayloadError
from transfer.messages import Upload
from transfer.pictures import BadMedia


def media_of(
    files: Sequence[tuple[Upload, bytes]], sample_rate: int | None
) -> dict[str, list[Any]]:
    """By the pipeline's argument, in order: Pillow images; of a film the list of its frames; of a
    sound `[channels, samples]` in float32, at `sample_rate` Hz (None: at its own).

    Raises `BadInput` for what cannot be decoded within the bounds.
    """
    found: dict[str, list[Any]] = {}
    for upload, data in files:
        try:
            media = _decoded(upload, data, sample_rate)
        except BadMedia as error:
            raise BadInput(f"{upload.param}: {error}", upload.param) from error
        found.setdefault(upload.param, []).append(media)
    return found


def _decoded(upload: Upload, data: bytes, sample_rate: int | None) -> Any:
    match upload.kind:
        case "picture":
            return pictures.decode(data, mask=upload.mask)
        case "film":
            return films.decode(data, mask=upload.mask)
        case "sound":
            array, _ = sounds.decode(data, sample_rate)
            return torch.from_numpy(array)


def read(file: InputFile) -> bytes:
    """Raises `PayloadError` for a file that is not what its hash says: the descriptor is the
    leader's, on this host, who may have let go of it."""
    try:
        with open(f"/proc/{file.pid}/fd/{file.fd}", "rb") as opened:
            data = opened.read(file.upload.nbytes + 1)
    except OSError as error:
        raise PayloadError(f"the upload {file.upload.hash} is gone: {error}") from error
    return checked(file.upload, data)


def checked(upload: Upload, data: bytes) -> bytes:
    """Raises `PayloadError`."""
    if len(data) != upload.nbytes or hashlib.sha256(data).hexdigest() != upload.hash:
        raise PayloadError(f"the upload {upload.hash} is not what its hash says")
    return data
