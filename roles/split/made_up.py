"""Media for requests that nobody sent: of the usual size, and nothing to see in them."""

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image

from transfer.messages import ModelInfo

SIDE = 512  # pixels, of a model that does not tell
SECONDS = 1.0
FRAMES = 5  # at least, of a film whose pipeline has no word for it

Made = dict[str, list[Any]]


def media_for(info: ModelInfo) -> Iterator[Made]:
    """What a request may have to bring, the least first: annotations do not always say."""
    kinds = info.media()
    choices = [set(info.needs), {"image", *info.needs} & set(kinds), set(info.pictures)]
    choices += [{*info.pictures, *info.films}, set(kinds)]
    seen: list[set[str]] = []
    for names in choices:
        if names not in seen and names.issuperset(info.needs):
            seen.append(names)
            yield {name: [_media(info, name)] for name in kinds if name in names}


def _media(info: ModelInfo, name: str) -> Any:
    mask = "mask" in name.split("_")
    match info.media()[name]:
        case "picture":
            return _picture(info, mask)
        case "film":
            return [_picture(info, mask)] * _frames(info)
        case "sound":
            return torch.zeros(2, int(SECONDS * (info.sample_rate or 16_000)))


def _picture(info: ModelInfo, mask: bool) -> Image.Image:
    size = info.default_size or (SIDE, SIDE)
    return Image.new("L", size, 255) if mask else Image.new("RGB", size, (127, 127, 127))


def _frames(info: ModelInfo) -> int:
    """As many as the video has that is made of it."""
    defaults = {each.name: each.default for each in info.parameters}
    told = defaults.get("num_frames")
    return told if isinstance(told, int) and told > 0 else max(FRAMES, info.frames_step + 1)
