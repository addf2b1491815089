"""The interface of a split model: what a rank's runner builds against. Imports no torch.

One request passes three calls, in one process or in three:

    records  = encoder.encode(call)              # text and image encoders
    steps    = denoiser.denoise(call, records)   # a Denoising: the loop, one forward at a time
    latents  = steps.result()
    samples  = decoder.decode(call, latents)     # pictures, videos, sounds

`records` and `latents` are trees of plain values and tensors that `transfer.payload` can pack.
`classic.ClassicProgram` implements it for the classic pipelines of diffusers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from roles.samples import Sample
from transfer.messages import Inputs, ModelInfo

if TYPE_CHECKING:
    from roles.split.encoding.encodings import Encodings
    from roles.split.encoding.generation import Generation
    from roles.split.weights.adapters import Adapters
    from roles.split.weights.exchange import Exchange
    from roles.split.weights.sleeper import Sleeper


class BadInput(Exception):
    """The request asks for what this model cannot make. `param` names the field, if one is known;
    `size` stands for height and width."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ModelError(Exception):
    """The model cannot be loaded; the message is one sentence for the person who named it."""


class Unsplittable(ModelError):
    """The model runs, but not as three roles. Says why, and names `--disagg-role monolithic`."""

    def __init__(self, pipeline: str, reason: str) -> None:
        super().__init__(
            f"{pipeline} cannot be split into roles: {reason}; "
            "serve it whole with --disagg-role monolithic"
        )
        self.reason = reason


class Unavailable(Exception):
    """The request asks for what this role, as it was started, does not do. `param` names the
    field."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class Cancelled(Exception):
    """What `Denoising.result` raises after `cancel`."""


class NoPreview(Exception):
    """What `Denoising.preview` raises where there is none: at this moment, or of this pipeline."""


class Call(msgspec.Struct, frozen=True):
    """One attempt at one request, as every role sees it. `media` that came with it, by the
    pipeline's argument: pictures (Pillow, RGB; a mask L), films (a list of such frames each) and
    sounds (tensors, `[channels, samples]` in float32); only where the pipeline begins."""

    request: str
    inputs: Inputs
    media: Mapping[str, list[Any]] = {}


@dataclass(frozen=True, eq=False)
class TransformerCall:
    """One forward that a pipeline waits for: everything to run it now, later, or in a batch.

    `module` is the shared, real module; `args` and `kwargs` are exactly what the pipeline gave.
    `context` is the request's own name for the step cache (`request/cond`), None outside of the
    pipeline's `cache_context`; `context_fields` are its other arguments. `hooks`: the request's own
    step cache (`roles.split.denoising.step_cache.Hooks`), None for a request without one. `number`:
    how many forwards its pipeline called before. `worn`: the adapters that it has on
    (`roles.split.weights.adapters.Worn`). `alone`: why it shares with no other call, and is not
    divided.
    """

    module: Any
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    context: str | None = None
    context_fields: Mapping[str, Any] = field(default_factory=dict)
    hooks: Any = None
    number: int = 0
    worn: Any = None
    alone: str | None = None

    def run(self) -> Any:
        """The real forward, alone: the very call that the plain pipeline makes."""
        if self.worn is not None:
            self.worn.on(self.name)
        if self.hooks is not None:
            with self.hooks.on(self.context, self.context_fields):
                return self.module(*self.args, **self.kwargs)
        if self.context is None:
            return self.module(*self.args, **self.kwargs)
        with self.module.cache_context(self.context, **self.context_fields):
            return self.module(*self.args, **self.kwargs)


@dataclass(frozen=True)
class Checkpoint:
    """A request at the end of a step, as data: copies that nothing changes any more.

    `payload`: what `Program.denoise` goes on from at that step, in this process or in another one,
    and gives bit for bit what the request would have given; None if it cannot go on from there.
    `why_not`: why it cannot, for people.
    """

    step: int
    payload: Any
    why_not: str | None = None


class Denoising(Protocol):
    """One request in the middle of its pipeline, standing at the transformer's door.

        denoising.start()
        while not denoising.done:
            denoising.resume([call.run() for call in denoising.pending])
        payload = denoising.result()

    All calls come from one thread. Between them any number of other requests may run.
    """

    @property
    def pending(self) -> tuple[TransformerCall, ...]:
        """The forwards that the pipeline waits for; none before `start` and once done.

        Several are the branches of guidance of one step, which a pipeline asked for one after the
        other. Their keys are equal (`batching.key_of`): they can run as one, with those of other
        requests too, or each by itself in order, as in the plain pipeline.
        """

    @property
    def step(self) -> int:
        """How many steps of the loop are complete."""

    @property
    def steps(self) -> int:
        """How many steps there are; before the loop begins, what the request asked for."""

    @property
    def done(self) -> bool:
        """Whether the pipeline has ended: by its end, by an error, or by `cancel`."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The latest that was asked for; None before."""

    def mark(self) -> None:
        """Asks for a `checkpoint` at the end of the step that it is in; none comes of the last."""

    def start(self) -> None:
        """Runs the pipeline to its first forward; one that goes on from a checkpoint to the first
        after that."""

    def resume(self, outputs: Sequence[Any]) -> None:
        """Hands over what the pending forwards gave, in their order, and runs to the next or to the
        end."""

    def preview(self) -> Any:
        """What there would be to see if the loop ended here: the payload for `decode`, or the
        samples of a pipeline that runs whole. Changes nothing in this request. Raises
        `NoPreview`."""

    def cancel(self) -> None:
        """Ends the pipeline where it stands. Does nothing if it is done."""

    def result(self) -> Any:
        """What the pipeline gave; raises its error (or BadInput, Cancelled) if it gave none."""


class Program(Protocol):
    """A loaded model in one or more roles. Requests share its weights, and `encodings`: the cache
    of what `encode` computed, if whoever runs it gives it one. `adapters`: None if it never has
    any. `sleeper`: None if its weights stay where they are; `exchange`: None if they stay what they
    are."""

    encodings: "Encodings | None"
    adapters: "Adapters | None"
    sleeper: "Sleeper | None"
    exchange: "Exchange | None"

    @property
    def info(self) -> ModelInfo:
        """What the model is, for registration and for the front door's checks."""

    @property
    def device(self) -> Any:
        """The torch.device that computes. Payloads are unpacked to it: `unpack(device=...)`."""

    def warm(self, ran: Callable[[int, int], None] | None = None) -> None:
        """Runs the transformer as two requests would. `ran` gets how many forwards have run, of how
        many, skipped ones included. Raises ModelError if it cannot run so."""

    def encode(self, call: Call) -> Any:
        """The payload for `denoise`. Raises BadInput for what the model cannot make."""

    def encoding(self, call: Call) -> "Generation":
        """The same a token at a time, not yet started: of a model with `info.generates`."""

    def denoise(self, call: Call, payload: Any) -> Denoising:
        """The loop, not yet started; its result is the payload for `decode`. `payload` is what
        `encode` gave, or that of a `Checkpoint`."""

    def decode(self, call: Call, payload: Any) -> list[Sample]:
        """The finished samples, at least one."""

    def generate(self, call: Call) -> Denoising:
        """The whole pipeline (role `monolithic`), not yet started; its result is the samples."""
