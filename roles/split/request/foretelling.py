"""Whether a request gets the size that it asks for, known before anything is denoised.

Some pipelines that begin with a picture make the size of that, or a megapixel, whatever else they
are told; that is refused (`roles.split.decoding.outputs`). Instead of finding it out when all is
computed, the first role runs the pipeline once past its loop, with a decoder that knows shapes
only, once for each form of request. What cannot be told so is seen in the end, as ever.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from roles.split.program import BadInput, Call

log = logging.getLogger(__name__)

MOST_FORMS = 256
# what makes no difference to a size
_NO_MATTER = {"num_inference_steps", "guidance_scale", "true_cfg_scale", "strength"}


class Foretelling:
    """`check(call, make)` raises BadInput(param="size") if `make()`, a run of the pipeline that
    computes nothing, does so. Whatever else goes wrong there tells nothing."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str | None] = OrderedDict()

    def check(self, call: Call, make: Callable[[], Any]) -> None:
        if not call.media or not {"width", "height"} & call.inputs.params.keys():
            return
        form = _form(call)
        if form not in self._known:
            self._known[form] = _refusal(make)
            if len(self._known) > MOST_FORMS:
                self._known.popitem(last=False)
        if (words := self._known[form]) is not None:
            raise BadInput(words, "size")


def _refusal(make: Callable[[], Any]) -> str | None:
    try:
        make()
    except BadInput as error:
        return str(error) if error.param == "size" else None
    except Exception:
        log.debug("the size of what is made cannot be told beforehand", exc_info=True)
    return None


def _form(call: Call) -> str:
    """What the size may depend on: every number, and the sizes of the media."""
    params: Mapping[str, Any] = call.inputs.params
    plain = {n: v for n, v in params.items() if not isinstance(v, str) and n not in _NO_MATTER}
    return repr((sorted(plain.items()), [(n, _sizes(m)) for n, m in sorted(call.media.items())]))


def _sizes(media: Any) -> Any:
    if isinstance(media, Image.Image):
        return media.size
    if isinstance(media, list):
        return [_sizes(each) for each in media]
    return getattr(media, "shape", None)
