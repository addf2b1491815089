"""Where generated pictures go: formats by extension, numbered names, whole files or none."""

import os
import tempfile
from pathlib import Path

from launch.errors import LaunchError

_FORMAT_OF = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".mp4": "mp4",
    ".zip": "zip",
    ".wav": "wav",
    ".flac": "flac",
}
FORMATS = tuple(dict.fromkeys(_FORMAT_OF.values()))


def format_of(path: Path) -> str:
    """The format that the file's extension names. Raises ValueError for another extension."""
    try:
        return _FORMAT_OF[path.suffix.lower()]
    except KeyError:
        known = ", ".join(_FORMAT_OF)
        raise ValueError(f"{path}: the extension is none of {known}; give --format") from None


def numbered(path: Path, count: int) -> list[Path]:
    """out.png for one picture; out-1.png, out-2.png … for several."""
    if count == 1:
        return [path]
    width = len(str(count))
    return [path.with_stem(f"{path.stem}-{number:0{width}}") for number in range(1, count + 1)]


def check_writable(path: Path) -> None:
    """Seen before a picture is computed for it. Raises `LaunchError`."""
    folder = path.parent
    if not folder.is_dir():
        raise LaunchError(f"there is no folder {folder} to write {path.name} to")
    if path.is_dir():
        raise LaunchError(f"{path} is a folder; name a file")
    if not os.access(folder, os.W_OK):
        raise LaunchError(f"the folder {folder} cannot be written to")


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that others see whole or not at all."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as draft:
            try:
                draft.write(content)
                os.fchmod(draft.fileno(), 0o666 & ~_umask())
                os.replace(draft.name, path)
            except BaseException:
                os.unlink(draft.name)
                raise
    except OSError as error:
        raise LaunchError(f"cannot write {path}: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
