"""The first forwards of a role, before there are requests: what is compiled is compiled, and what
cannot run here is found.

The transformer's arguments are those that the pipeline itself gives it. A role without text
encoders makes up what they would say: it runs their skeletons on the meta device, which gives the
shapes, and takes zeros; and so of a VAE that is to encode the picture which a request needs, and
which is made up too.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from roles.split.denoising.batching import key_of, merge
from roles.split.face import Face, StandIn
from roles.split.files.components import brief
from roles.split.imagined import Imagined, hollow, saying_zeros
from roles.split.made_up import Made, media_for
from roles.split.program import Call, Denoising, ModelError, TransformerCall
from transfer.messages import Inputs, ModelInfo, Params
from transfer.speed import told

log = logging.getLogger(__name__)


def warm(program: Any, ran: Callable[[int, int], None] | None = None) -> None:
    """Runs each form of forward for one request and for two. Raises ModelError if that fails. `ran`
    gets how many are behind it, of how many; of a form that came before, both are.

    `program` is a `roles.split.classic.ClassicProgram`. A model whose requests cannot be made up is
    left as it is: then the first of them take longer.
    """
    forms: set[str] = set()
    requests = list(_inputs(program.info))
    try:
        media = _needed(program, requests[0])
    except Exception as error:
        log.warning("no warm-up: a request cannot be made up (%s)", brief(error))
        log.debug("the reason", exc_info=True)
        return

    def passed(count: int) -> None:
        if ran is not None:
            ran(count, 2 * len(requests))

    passed(0)
    for number, inputs in enumerate(requests):
        try:
            pair = [_begun(program, Call("warm-up", inputs, media)) for _ in range(2)]
        except Exception as error:
            log.warning("no warm-up: a request cannot be made up (%s)", brief(error))
            log.debug("the reason", exc_info=True)
            return
        calls = [call for each in pair for call in each.pending]
        form = (key_of(calls[0]) or "").partition(":")[0]
        if form not in forms:
            forms.add(form)
            _run(program.info, calls, partial(passed, 2 * number + 1))
        passed(2 * number + 2)
        for each in pair:
            each.cancel()


def _run(info: ModelInfo, calls: list[TransformerCall], half: Callable[[], None]) -> None:
    """`half` is called between the two."""
    try:
        calls[0].run()
        half()
        if key_of(calls[0]) is not None:
            merge(calls)[0].run()
    except Exception as error:
        log.debug("the warm-up failed", exc_info=True)
        raise ModelError(
            f"{info.name} does not run with {told(info.speed)}: {brief(error)}"
        ) from error


def _inputs(info: ModelInfo) -> Iterator[Inputs]:
    """A usual request, and one without guidance: often that is a smaller batch."""
    known = {parameter.name for parameter in info.parameters}
    usual: Params = {"prompt": "a picture", "num_inference_steps": 2, "strength": 1.0}
    params: Params = {name: value for name, value in usual.items() if name in known}
    yield Inputs(params, 0)
    for name in ("guidance_scale", "true_cfg_scale"):
        if name in known:
            yield Inputs({**params, name: 1.0}, 0)


def _needed(program: Any, inputs: Inputs) -> Made:
    """The media without which no request begins. Raises what it said to the least of them."""
    if not program.info.media():
        return {}
    first: Exception | None = None
    for media in media_for(program.info):
        try:
            _begun(program, Call("warm-up", inputs, media)).cancel()
        except Exception as error:
            first = first or error
        else:
            return media
    assert first is not None
    raise first


def _begun(program: Any, call: Call) -> Denoising:
    """A request at its first forward."""
    if program.info.splittable:
        imagined: dict[str, Face] = {
            name: _imagined(name, part, program.device)
            for name, part in program.of_part("encoder").items()
            if isinstance(part, StandIn)
        }
        if call.media:
            imagined |= {
                name: Imagined(part.component, program.device)  # no stand-in: it encodes
                for name, part in program.of_part("decoder").items()
                if isinstance(part, StandIn) and hasattr(part.component, "encode")
            }
        denoising: Denoising = program.denoise(call, program.with_parts(imagined).encode(call))
    else:
        denoising = program.generate(call)
    denoising.start()
    if denoising.done:
        denoising.result()  # raises why
    return denoising


def _imagined(name: str, part: StandIn, device: torch.device) -> StandIn:
    """An encoder that says zeros, of the shapes that the real one would."""
    compute = saying_zeros(hollow(part.component), device)
    return StandIn(name, part.component, device, {"__call__": compute, "forward": compute})
