"""Decoding when memory is short: in slices, then in tiles, by the decoder's own switches.

Slices decode one sample, or frame, of a batch after the other. Tiles decode overlapping parts of
each picture and blend them: that needs a fraction of the memory, and changes pixels. So it is only
done when the decoding has failed otherwise, it is said, and it is never done to an exact request.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from roles.split import finite
from roles.split.denoising.together import free_memory, is_out_of_memory
from transfer.messages import DecodedIn

if TYPE_CHECKING:
    from roles.split.parallel.tiles import Tiles

log = logging.getLogger(__name__)

SWITCHES: dict[Literal["slices", "tiles"], str] = {"slices": "slicing", "tiles": "tiling"}


class NoRoom(RuntimeError):
    """A device has not the memory to decode this, in no way that the request permits."""


class Sparing:
    """Decodes one request's results. `way`: what was needed for want of memory, if anything; or
    tiles, because `tiles` divides them among ranks, which an exact request's never are."""

    def __init__(self, request: str, exact: bool, tiles: "Tiles | None" = None) -> None:
        self.way: DecodedIn = None
        self._request = request
        self._exact = exact
        self._tiles = None if exact else tiles

    def decode(self, name: str, module: Any, decode: Callable[[], Any], given: Any = None) -> Any:
        """What `decode` gives, which computes with `module` and the arguments `given`; it may be
        called several times.

        Raises NoRoom, NotFinite, and whatever else `decode` raises. The module's switches are
        afterwards as they were.
        """
        result = self._decoded(name, module, decode, given)
        finite.check(name, result, given)
        return result

    def _decoded(self, name: str, module: Any, decode: Callable[[], Any], given: Any) -> Any:
        if self._tiles is not None and self._tiles.divides(module):
            decode = partial(self._divided, self._tiles, module, decode, given)
        made, result, reason = _tried(decode)
        if made:
            return result
        if self._exact:
            raise NoRoom(
                f"there is not enough memory to decode with {name} ({reason}); in tiles it would "
                "not be exact: ask without exact, for a smaller size, or give the decoder more"
            )
        with contextlib.ExitStack() as switches:
            for way in SWITCHES:
                if not switches.enter_context(switched(module, SWITCHES[way])):
                    continue
                made, result, reason = _tried(decode)
                if made:
                    self._say(name, way)
                    return result
        raise NoRoom(
            f"there is not enough memory to decode with {name}, not even in tiles ({reason}); "
            "ask for a smaller size, or give the decoder more"
        )

    def _divided(self, tiles: "Tiles", module: Any, decode: Callable[[], Any], given: Any) -> Any:
        result, in_tiles = tiles.decode(module, decode, given)
        self.way = "tiles" if in_tiles else self.way
        return result

    def _say(self, name: str, way: DecodedIn) -> None:
        self.way = "tiles" if self.way == "tiles" else way
        log.warning("out of memory: request %s was decoded with %s in %s", self._request, name, way)


def sparingly(name: str, module: Any, sparing: Sparing) -> Any:
    """The `decode` of a decoder whose pipeline calls it itself, with generators of its own."""

    def decode(*args: Any, **kwargs: Any) -> Any:
        drawing = [v for v in (*args, *kwargs.values()) if isinstance(v, torch.Generator)]
        states = [generator.get_state() for generator in drawing]

        def once() -> Any:
            for generator, state in zip(drawing, states, strict=True):
                generator.set_state(state)
            return module.decode(*args, **kwargs)

        return sparing.decode(name, module, once, (args, kwargs))

    return decode


def _tried(decode: Callable[[], Any]) -> tuple[bool, Any, str]:
    """(whether it was made, the result, why it was not made for want of memory)."""
    try:
        return True, decode(), ""
    except Exception as error:  # let go of before the next try: its frames hold tensors
        if not is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
    free_memory()
    return False, None, reason


@contextlib.contextmanager
def switched(module: Any, switch: str) -> Iterator[bool]:
    """Turns a switch of a decoder on within the block. False: it has none, or it is on already."""
    enable = getattr(module, f"enable_{switch}", None)
    if enable is None or getattr(module, f"use_{switch}", None) is not False:
        yield False
        return
    try:
        enable()
    except NotImplementedError:  # diffusers has it in every autoencoder, also where it is not made
        yield False
        return
    try:
        yield True
    finally:
        getattr(module, f"disable_{switch}")()
