"""What `POST /v1/images/generations` takes and gives: OpenAI's schema and the fields we add.
`POST /v1/jobs` takes the same.

The Structs are decoded and checked in one pass (`decoding`). The descriptions end up in
/openapi.json. Every optional field may be null, as the SDK sends it.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from orchestrator.service import Timings
from transfer.messages import Params, Scalar

MAX_PROMPT = 32_000  # characters, as OpenAI allows
MAX_SEED = 2**63 - 1
NO_EFFECT = "Accepted, without effect here."

Parameter = Scalar | list[Scalar | list[Scalar]]
OutputFormat = Literal["png", "jpeg", "webp", "mp4", "zip", "wav", "flac"]


class StepCacheField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not computed in every step. `none` switches off what the server does by itself."""

    type: Annotated[
        str, Meta(description="none, first_block, taylorseer or pyramid, where the model has it.")
    ]
    threshold: Annotated[
        float | None,
        Meta(description="Of first_block: relative change below which the rest is skipped, 0-1."),
    ] = None
    interval: Annotated[
        int | None,
        Meta(description="Of taylorseer and pyramid: computed every so many steps, 2-100."),
    ] = None


class LoraField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A LoRA adapter that is loaded."""

    name: Annotated[str, Meta(description="As it was loaded.")]
    scale: Annotated[
        Annotated[float, Meta(ge=-100, le=100)] | None,
        Meta(description="How much of it. Left out: as it was loaded."),
    ] = None


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/images/generations`."""

    prompt: Annotated[
        Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT)] | None,
        Meta(description="What to make. Needed, unless the pipeline takes none."),
    ] = None
    model: Annotated[
        str | None,
        Meta(
            description="The id of a model of GET /v1/models, or `default`. May be left out where "
            "only one is served, or one was declared to be meant then."
        ),
    ] = None
    n: Annotated[
        Annotated[int, Meta(ge=1, le=10)] | None,
        Meta(description="How many; their seeds are seed, seed+1, … Default 1."),
    ] = None
    size: Annotated[
        str | None,
        Meta(description="`WIDTHxHEIGHT` in pixels, or `auto` (the model's own size)."),
    ] = None
    quality: Annotated[
        Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None,
        Meta(description=f"{NO_EFFECT} num_inference_steps is what changes the quality."),
    ] = None
    response_format: Annotated[
        Literal["b64_json", "url"] | None,
        Meta(description="`b64_json` (default), or `url`: a link that expires."),
    ] = None
    output_format: Annotated[
        OutputFormat | None,
        Meta(
            description="png (default), jpeg, webp; of video mp4 (default), webp, zip (frames); of "
            "audio wav (default), flac."
        ),
    ] = None
    output_compression: Annotated[
        Annotated[int, Meta(ge=0, le=100)] | None,
        Meta(description="Quality of jpeg and webp, 0-100, more is better."),
    ] = None
    background: Annotated[
        Literal["auto", "opaque", "transparent"] | None, Meta(description=NO_EFFECT)
    ] = None
    moderation: Annotated[Literal["auto", "low"] | None, Meta(description=NO_EFFECT)] = None
    style: Annotated[Literal["vivid", "natural"] | None, Meta(description=NO_EFFECT)] = None
    user: Annotated[str | None, Meta(description=NO_EFFECT)] = None
    safety_identifier: Annotated[str | None, Meta(description=NO_EFFECT)] = None
    stream: Annotated[
        bool | None, Meta(description="Reply with server-sent events, as the pictures are made.")
    ] = None
    partial_images: Annotated[
        Annotated[int, Meta(ge=0, le=3)] | None,
        Meta(
            description="With stream=true, and in a job's events: pictures half done, at most so "
            "many of each."
        ),
    ] = None

    negative_prompt: Annotated[
        Annotated[str, Meta(max_length=MAX_PROMPT)] | None,
        Meta(description="What to avoid."),
    ] = None
    num_inference_steps: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None, Meta(description="Denoising steps.")
    ] = None
    guidance_scale: Annotated[
        Annotated[float, Meta(ge=0, le=1000)] | None, Meta(description="As the pipeline reads it.")
    ] = None
    true_cfg_scale: Annotated[
        Annotated[float, Meta(ge=0, le=1000)] | None, Meta(description="As the pipeline reads it.")
    ] = None
    seed: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_SEED)] | None,
        Meta(
            description="generator=torch.Generator('cpu').manual_seed(seed). Left out: drawn at "
            "random, and told in the header x-triptych-seed."
        ),
    ] = None
    exact: Annotated[
        bool | None,
        Meta(description="Keep out of batches: bit for bit what the plain pipeline gives."),
    ] = None
    loras: Annotated[
        Annotated[list[LoraField], Meta(max_length=16)] | None,
        Meta(
            description="The adapters to have on, and no others; [] for none. Left out: all that "
            "are loaded, as they were loaded. POST /v1/cluster/rpc loads them."
        ),
    ] = None
    step_cache: Annotated[
        StepCacheField | None,
        Meta(description="Faster, with other pixels. Left out: as the server was started."),
    ] = None
    priority: Annotated[
        Literal["low", "normal", "high"] | None,
        Meta(description="Those of a lower class give way, between two steps. Default normal."),
    ] = None
    height: Annotated[int | None, Meta(description="Pixels; instead of size.")] = None
    width: Annotated[int | None, Meta(description="Pixels; instead of size.")] = None
    num_frames: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None, Meta(description="Of a video.")
    ] = None
    fps: Annotated[
        Annotated[int, Meta(ge=1, le=240)] | Annotated[float, Meta(gt=0, le=240)] | None,
        Meta(description="Frames per second. Left out: as the model's page says."),
    ] = None
    strength: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None, Meta(description="As the pipeline reads it.")
    ] = None

    audio_length_in_s: Annotated[
        Annotated[float, Meta(gt=0, le=600)] | None, Meta(description="Seconds of sound.")
    ] = None
    audio_end_in_s: Annotated[
        Annotated[float, Meta(gt=0, le=600)] | None,
        Meta(description="Seconds of sound, in the words of other pipelines."),
    ] = None

    parameters: Annotated[
        dict[str, Parameter] | None,
        Meta(
            description="Other arguments of the pipeline, by name. They may also stand beside the "
            "fields here. The model's page lists them."
        ),
    ] = None

    def pipeline_params(self) -> Params:
        """The arguments of the pipeline that the request gave in fields of ours (the size not among
        them)."""
        given = {name: getattr(self, name) for name in PIPELINE_FIELDS}
        return {name: value for name, value in given.items() if value is not None}


class JobRequest(ImageRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs`. `response_format` has no effect there: a job has links."""

    type: Annotated[
        Literal["image", "video", "audio"] | None,
        Meta(description="What is made. Left out: what the model makes."),
    ] = None


class ImageReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of both, says OpenAI's schema; here it is an `image_url` of type data:."""

    image_url: str | None = None
    file_id: str | None = None


class VideoRequest(ImageRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/videos`, as JSON or as a form. `n`, `stream` and `response_format` are
    not for videos."""

    seconds: Annotated[
        Annotated[str, Meta(pattern=r"^\d{1,4}(\.\d{1,6})?$")]
        | Annotated[int, Meta(gt=0, le=600)]
        | Annotated[float, Meta(gt=0, le=600)]
        | None,
        Meta(description="How long; the nearest that the model can make. Or give num_frames."),
    ] = None
    input_reference: Annotated[
        ImageReference | None,
        Meta(description="What to begin with: a file of the form, or of JSON a data: URL."),
    ] = None


class EditRequest(ImageRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/images/edits` and `/v1/images/variations`: a form with the files
    `image` (or `image[]`, up to 16) and `mask`, or JSON. The mask's transparent pixels, or, if it
    has none, its white ones, are those to change."""

    prompt: Annotated[
        Annotated[str, Meta(max_length=MAX_PROMPT)] | None, Meta(description="What to make.")
    ] = None
    images: Annotated[
        Annotated[list[ImageReference], Meta(min_length=1, max_length=16)] | None,
        Meta(description="Of JSON: what to begin with, as data: URLs."),
    ] = None
    mask: Annotated[
        ImageReference | None, Meta(description="Of JSON: as large as the first picture.")
    ] = None
    input_fidelity: Annotated[Literal["high", "low"] | None, Meta(description=NO_EFFECT)] = None


class RemixRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/videos/{id}/remix`."""

    prompt: Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT, description="What to make.")]
    seed: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_SEED)] | None,
        Meta(description="Left out: that of the video that is remixed."),
    ] = None


class AudioRequest(ImageRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/audio/generations`."""

    seconds: Annotated[
        Annotated[float, Meta(gt=0, le=600)] | None, Meta(description="How long.")
    ] = None


PIPELINE_FIELDS = (
    "prompt",
    "negative_prompt",
    "num_inference_steps",
    "guidance_scale",
    "true_cfg_scale",
    "num_frames",
    "fps",
    "strength",
    "audio_length_in_s",
    "audio_end_in_s",
)


SETTABLE = frozenset(PIPELINE_FIELDS) | {"height", "width"}
OWN_FIELDS = frozenset(
    field.name
    for kind in (JobRequest, VideoRequest, EditRequest, AudioRequest)
    for field in msgspec.structs.fields(kind)
)
"""An argument of the pipeline that is called like one of these is it if it is `SETTABLE`, and else
keeps its default."""


class InputTokens(msgspec.Struct, frozen=True):
    image_tokens: int = 0
    text_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Zeros: a diffusion model is not billed in tokens, but the SDK's models want every key."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: InputTokens = InputTokens()
    output_tokens_details: InputTokens = InputTokens()


class ImageItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One finished file: its bytes in base64, or a link to it."""

    b64_json: str | None = None
    url: str | None = None


class ImagesReply(msgspec.Struct, frozen=True, kw_only=True):
    """The reply. `created`: seconds since 1970. `data` comes last: it is streamed."""

    created: int
    size: str
    quality: str
    output_format: str
    background: str = "opaque"
    usage: Usage = Usage()
    data: list[ImageItem] = []


class PartialImage(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an event of a stream: a picture half done. `created_at`: seconds since 1970.
    `partial_image_index` counts those of one picture from 0; `image_index` says of which of the n,
    and is ours. `b64_json` comes last: it is streamed."""

    type: Literal["image_generation.partial_image", "image_edit.partial_image"] = (
        "image_generation.partial_image"
    )
    partial_image_index: int
    image_index: int
    created_at: int
    size: str
    quality: str
    background: str = "opaque"
    output_format: str
    b64_json: str = ""


class ImageCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an event of a stream: a finished picture, with fields as in `PartialImage`.
    `timings`: as in the header `x-triptych-timings` of other replies."""

    type: Literal["image_generation.completed", "image_edit.completed"] = (
        "image_generation.completed"
    )
    image_index: int
    created_at: int
    size: str
    quality: str
    background: str = "opaque"
    output_format: str
    usage: Usage = Usage()
    timings: Timings
    b64_json: str = ""
