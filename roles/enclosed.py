"""What came with a request, as pictures. Runs in the rank."""

import hashlib
from typing import TYPE_CHECKING

from roles.calls import InputFile
from roles.split.program import BadInput
from transfer.errors import PayloadError
from transfer.pictures import BadPicture, decode

if TYPE_CHECKING:
    from PIL.Image import Image


def pictures_of(files: list[InputFile]) -> "dict[str, list[Image]]":
    """By the pipeline's argument, in order.

    Raises `BadInput` for what is no picture, and `PayloadError` for a file that is not what its
    hash says: the descriptor is the leader's, who may have let go of it.
    """
    found: dict[str, list[Image]] = {}
    for file in files:
        upload = file.upload
        try:
            picture = decode(_bytes(file), mask=upload.mask)
        except BadPicture as error:
            raise BadInput(f"{upload.param}: {error}", upload.param) from error
        found.setdefault(upload.param, []).append(picture)
    return found


def _bytes(file: InputFile) -> bytes:
    try:
        with open(f"/proc/{file.pid}/fd/{file.fd}", "rb") as opened:
            data = opened.read(file.upload.nbytes + 1)
    except OSError as error:
        raise PayloadError(f"the upload {file.upload.hash} is gone: {error}") from error
    if hashlib.sha256(data).hexdigest() != file.upload.hash:
        raise PayloadError(f"the upload {file.upload.hash} is not what its hash says")
    return data
