"""Media that came with a request, as the pipeline's arguments: pictures, films, sounds.

Whoever runs the first part of a pipeline gets them (`Call.media`); from there on they travel in the
payload, under `media`, since every part runs the pipeline's own program with the same arguments.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from roles.split.program import BadInput, Call

Kind = Literal["picture", "film", "sound"]

# What says of an argument that is called like a picture that it is a tensor of something else, or
# (adapter) for an image adapter, which no role loads.
_OTHERWISE = {
    "adapter",
    "latents",
    "embeds",
    "embeddings",
    "attention",
    "ids",
    "feature",
    "prompt",
    "padding",
}
# Sounds that are `[channels, samples]` in all pipelines that call them so; the others are a batch.
_ALONE = {"src_audio", "reference_audio"}
_PLAIN = ("bool", "int", "float", "str")


@dataclass(frozen=True)
class MediaArgument:
    """An argument of a pipeline's `__call__` that is made of media.

    `several`: it is a list even of a single one.
    """

    kind: Kind
    required: bool
    several: bool


def media_arguments(call: Callable[..., Any]) -> dict[str, MediaArgument]:
    """Those of a pipeline's `__call__`, told by their names and annotations."""
    named = inspect.signature(call).parameters
    films = any(media_kind(each, False) == "film" for each in named.values())
    found = {}
    for name, parameter in named.items():
        if kind := media_kind(parameter, films):
            several = kind != "film" and _several(name, _annotation(parameter).lower())
            found[name] = MediaArgument(kind, parameter.default is parameter.empty, several)
    return found


def _several(name: str, annotation: str) -> bool:
    """A list, or, of what is called `images`, that or a single one: a list of one is both."""
    return annotation.startswith("list[") or (name.endswith("images") and "list[" in annotation)


def media_kind(parameter: inspect.Parameter, films: bool) -> Kind | None:
    """None of what is made of no media. `films`: there are some beside it, so that its masks are
    films too."""
    annotation, words = _annotation(parameter), parameter.name.split("_")
    if _OTHERWISE & set(words) or annotation.removesuffix(" | None") in _PLAIN:
        return None
    pictures = "Image" in annotation
    match words[-1]:
        case "video":
            return "film"
        case "frames" | "controls" if pictures:
            return "film"
        case "audio" | "waveforms" if "str" not in annotation:
            return "sound"
        case "mask" if pictures:
            return "film" if films else "picture"
        case "image" | "images":
            return "picture"
    return "picture" if pictures and words[0] == "image" else None


def _annotation(parameter: inspect.Parameter) -> str:
    written = parameter.annotation
    if isinstance(written, type) and not hasattr(written, "__args__"):
        return written.__name__
    return str(written).removeprefix("typing.")


def with_media(call: Call, payload: Any) -> Call:
    """The call, with what a part of the pipeline that ran before was given."""
    media = payload.get("media") if isinstance(payload, dict) else None
    return replace(call, media=media) if media else call


def carried(call: Call) -> dict[str, Any]:
    """What a payload says of it."""
    return {"media": dict(call.media)} if call.media else {}


def accept(known: Mapping[str, MediaArgument], media: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments: a picture, a sound (a batch of one where the pipeline wants one) or
    the frames of a film, or the list of several. Raises BadInput that names the field."""
    for name in media:
        if name not in known:
            raise BadInput(f"this model takes no {name}", name)
    for name, one in known.items():
        if one.required and not media.get(name):
            raise BadInput(f"{name} is missing", name)
    return {name: _argument(name, known[name], value) for name, value in media.items()}


def _argument(name: str, known: MediaArgument, media: Any) -> Any:
    if known.kind == "sound" and name not in _ALONE:
        media = [each[None] if each.ndim == 2 else each for each in media]
    return list(media) if len(media) > 1 or known.several else media[0]
