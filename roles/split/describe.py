"""What a model is, for registration: derived from its pipeline, for every family alike."""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Collection
from typing import Any, Literal

from msgspec.structs import replace

from roles.split.decoding.outputs import ONE_SOUND, PICTURES, SOUNDS, VIDEOS
from roles.split.decoding.rates import fps_of, frames_step, sample_rate
from roles.split.request.given import Kind, media_arguments
from roles.split.request.inputs import Argument
from roles.split.request.structures import structures
from roles.split.view import Pipeline
from transfer.messages import ModelInfo

_SCALES = ("vae_scale_factor", "vae_scale_factor_spatial", "vae_spatial_compression_ratio")
_DENOISERS = ("transformer", "unet", "transformer_2", "prior", "decoder")


def describe(
    pipeline: Pipeline,
    name: str,
    fingerprint: str,
    arguments: dict[str, Argument],
    why_not: str | None = None,
) -> ModelInfo:
    size = default_size(pipeline, arguments)
    info = _info(pipeline, name, fingerprint, arguments, why_not, modality(pipeline), size)
    return _with_media(info, type(pipeline).__call__)


def describe_modular(
    pipeline: Pipeline,
    name: str,
    fingerprint: str,
    arguments: dict[str, Argument],
    call: Callable[..., Any],
    made: Collection[str],
    why_not: str | None = None,
) -> ModelInfo:
    """`call`: a function with the inputs of its blocks as arguments
    (`roles.split.modular.declared`); `made`: the names of what they make."""
    size = _declared_size(pipeline, arguments)
    info = _info(pipeline, name, fingerprint, arguments, why_not, _modality_of(made), size)
    return _with_media(info, call)


def _info(
    pipeline: Pipeline,
    name: str,
    fingerprint: str,
    arguments: dict[str, Argument],
    why_not: str | None,
    kind: Literal["image", "video", "audio"],
    size: tuple[int, int] | None,
) -> ModelInfo:
    """What is told in the same way of every pipeline."""
    fps = fps_of(pipeline, arguments) if kind == "video" else None
    return ModelInfo(
        name=name,
        pipeline=type(pipeline).__name__,
        fingerprint=fingerprint,
        modality=kind,
        parameters=[argument.describe() for argument in arguments.values()],
        default_size=size,
        size_multiple=size_multiple(pipeline, arguments),
        splittable=why_not is None,
        why_not=why_not,
        fps=fps and fps.value,
        fps_from=fps and fps.said_by,
        frames_step=frames_step(pipeline),
        sample_rate=sample_rate(pipeline) if kind != "image" else None,
    )


def _with_media(info: ModelInfo, call: Callable[..., Any]) -> ModelInfo:
    """And the media that it takes, by kind."""
    found = media_arguments(call)

    def of(kind: Kind) -> list[str]:
        return [name for name, one in found.items() if one.kind == kind]

    return replace(
        info,
        pictures=of("picture"),
        films=of("film"),
        sounds=of("sound"),
        needs=[name for name, one in found.items() if one.required],
        structures=[one.describe() for one in structures(call).values()],
    )


def _modality_of(made: Collection[str]) -> Literal["image", "video", "audio"]:
    for kind in ("video", "image", "audio"):
        if {kind, f"{kind}s"} & set(made):
            return kind
    return "image"


def _declared_size(pipeline: Any, arguments: dict[str, Argument]) -> tuple[int, int] | None:
    """What a modular pipeline says of itself, where its blocks do not."""
    width, height = (getattr(pipeline, f"default_{side}", None) for side in ("width", "height"))
    if isinstance(width, int) and isinstance(height, int):
        return width, height
    return default_size(pipeline, arguments)


def modality(pipeline: Any) -> Literal["image", "video", "audio"]:
    """By what its output's fields are called, as in `roles.split.decoding.outputs`, or by its
    arguments."""
    named = inspect.signature(type(pipeline).__call__).parameters
    made = _output_fields(type(pipeline))
    if named.keys() & {"num_frames", "video_length", "frames"} or made & {*VIDEOS}:
        return "video"
    if made & {*SOUNDS, *ONE_SOUND} and not made & {*PICTURES}:
        return "audio"
    return "image" if named.keys() & {"height", "width"} or not _is_audio(named) else "audio"


def _output_fields(kind: type[Any]) -> set[str]:
    """The x of each `SomeOutput(x=…)` that a pipeline's `__call__` makes, by its source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind.__call__)))
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(name), keywords=fields) if name.endswith("Output"):
                found.update(field.arg for field in fields if field.arg is not None)
    return found


def _is_audio(named: Any) -> bool:
    return any("audio" in name for name in named)


def size_multiple(pipeline: Any, arguments: dict[str, Argument]) -> int:
    """What height and width must be multiples of: the pixels of a latent, times the latents of a
    transformer's patch."""
    if "height" not in arguments:
        return 1
    scale = next((int(s) for n in _SCALES if (s := getattr(pipeline, n, None))), 1)
    if "use_resolution_binning" in arguments:  # makes a size it likes, and resizes the picture
        return scale
    config = _config(_denoiser(pipeline))
    patch = config.get("patch_size") or config.get("all_patch_size") or 1
    patch = max(patch) if isinstance(patch, list | tuple) else patch
    return scale * max(int(patch), _packing(pipeline, config))


def _packing(pipeline: Any, config: dict[str, Any]) -> int:
    """How many latents lie along a side of what a transformer sees as one: some pipelines pack
    squares of them into channels."""
    latent = _config(getattr(pipeline, "vae", None))
    channels = latent.get("latent_channels") or latent.get("z_dim")
    seen = config.get("out_channels") or config.get("in_channels")
    if not isinstance(channels, int) or not isinstance(seen, int) or seen % channels:
        return 1
    side = math.isqrt(seen // channels)
    return side if side * side * channels == seen else 1


def default_size(pipeline: Any, arguments: dict[str, Argument]) -> tuple[int, int] | None:
    """(width, height) of a request that names none, where that can be told."""
    if "height" not in arguments or "width" not in arguments:
        return None
    width, height = arguments["width"].default, arguments["height"].default
    if isinstance(width, int) and isinstance(height, int):
        return width, height
    written = _fallbacks(type(pipeline))
    if "width" in written and "height" in written:
        return written["width"], written["height"]
    side = getattr(pipeline, "default_sample_size", None)
    side = side or _config(_denoiser(pipeline)).get("sample_size")
    scale = getattr(pipeline, "vae_scale_factor", None)
    return (side * scale, side * scale) if isinstance(side, int) and scale else None


def _fallbacks(kind: type[Any]) -> dict[str, int]:
    """The numbers in lines like `height = height or 1024` of a pipeline's `__call__`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind.__call__)))
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(
                targets=[ast.Name(name)],
                value=ast.BoolOp(op=ast.Or(), values=[ast.Name(), ast.Constant(int(number))]),
            ):
                found[name] = number
    return found


def _denoiser(pipeline: Any) -> Any:
    found = (getattr(pipeline, name, None) for name in _DENOISERS)
    return next((part for part in found if part is not None), None)


def _config(part: Any) -> dict[str, Any]:
    config = getattr(part, "config", None)
    return dict(config) if isinstance(config, dict) else {}
