"""`--parallel tiles=N`: the tiles of an autoencoder's own tiled decode, shared out among ranks.

Every rank runs the same decode. At first the inner decoder computes the tiles of this rank only;
then the ranks exchange them, and the decode runs again, to its end, with all tiles at hand. So the
cutting and the blending are the autoencoder's own, each tile is computed by the decoder that it
always was, and the result is bit for bit that of the same tiled decode in one rank.
"""

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from roles.split.decoding.sparing import switched
from roles.split.denoising.batching import tensors
from roles.split.parallel.tile_plan import TilePlan, instead, planned
from roles.split.program import ModelError

if TYPE_CHECKING:
    from roles.rank.world import World

log = logging.getLogger(__name__)

MAX_PLANS = 256  # sizes of pictures


def divide_tiles(parts: Mapping[str, Any], world: "World") -> "Tiles":
    """For these decoders, by component name. Raises ModelError if none decodes in tiles."""
    reasons = {name: why_not(part) for name, part in parts.items()}
    if all(reasons.values()):
        reason = " and ".join(filter(None, reasons.values())) or "the model has no decoder"
        raise ModelError(
            f"--parallel tiles={world.parallel.tiles}: {reason}; without it all ranks of a "
            "decoder do the same, so that one is as good"
        )
    return Tiles(world, [part for name, part in parts.items() if reasons[name] is None])


def why_not(module: Any) -> str | None:
    """Why a decoder's tiles cannot be shared out; None if they can, as far as one can see."""
    kind = type(module).__name__
    if not hasattr(module, "enable_tiling") or not hasattr(module, "use_tiling"):
        return f"{kind} does not decode in tiles"
    if not isinstance(getattr(module, "decoder", None), torch.nn.Module):
        return f"{kind} decodes its tiles without a decoder inside that could be called for one"
    return None


class Tiles:
    """The ranks of one instance that share out tiles. `decode` is called in all ranks for the same
    requests, and raises in all of them or in none."""

    def __init__(self, world: "World", modules: list[Any]) -> None:
        self._world = world
        self._modules = modules
        self._plans: OrderedDict[Any, TilePlan] = OrderedDict()

    def divides(self, module: Any) -> bool:
        return any(each is module for each in self._modules)

    def decode(self, module: Any, decode: Callable[[], Any], given: Any) -> tuple[Any, bool]:
        """What `decode` gives with the module's tiling on, and whether that was in other tiles than
        without. `given`: its arguments. `decode` is called several times, and must do the same each
        time.

        Raises what it raises, and what `World.agree` does.
        """
        with switched(module, "tiling") as was_off:
            key = _key(module, given)
            plan = self._plan(key, module, decode, was_off)
            if plan.why_not is None and plan.tiles > 1:
                chance = _chance(module)
                same, result = _Shared(self._world, module, plan).decode(decode, given)
                if same:
                    return result, plan.alters
                _restore(chance, module)
                plan = replace(plan, why_not="they depend on each other, or on chance")
                self._remember(key, module, plan)
            return decode(), plan.alters

    def _plan(self, key: Any, module: Any, decode: Callable[[], Any], was_off: bool) -> TilePlan:
        if key not in self._plans:
            plan, error = TilePlan(), None
            try:
                with _same_chance(module):
                    plan = _compared(module, decode) if was_off else planned(module, decode)
            except Exception as reason:
                error = reason
            self._world.agree(error, plan.digest)
            self._remember(key, module, plan)
        self._plans.move_to_end(key)
        return self._plans[key]

    def _remember(self, key: Any, module: Any, plan: TilePlan) -> None:
        self._plans[key] = plan
        if len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)
        if plan.why_not is not None:
            kind = type(module).__name__
            log.warning("every rank computes all tiles of %s: %s", kind, plan.why_not)


class _Done(BaseException):
    """This rank's last tile is computed; past every `except Exception` of the decode's own."""


class _Shared:
    """One decoding."""

    def __init__(self, world: "World", module: Any, plan: TilePlan) -> None:
        self._world = world
        self._module = module
        self._pieces = plan.pieces
        self._owners = plan.owners(world.parallel.ranks)
        self._mine = [i for i, owner in enumerate(self._owners) if owner == world.rank]
        self._compute = module.decoder.forward
        self._at = 0
        self._made: dict[int, torch.Tensor] = {}
        self._read: dict[int, torch.Tensor] = {}
        self._same = True

    def decode(self, decode: Callable[[], Any], given: Any) -> tuple[bool, Any]:
        """Whether it was right to share, and the result if so."""
        error: Exception | None = None
        try:
            self._run_mine(decode)
        except Exception as reason:
            error = reason
        self._world.agree(error, _digest(given))
        self._exchange()
        result = None
        try:
            result = self._run_all(decode)
        except Exception as reason:
            error = reason
        self._world.agree(error)
        return self._world.all(self._same), result

    def _run_mine(self, decode: Callable[[], Any]) -> None:
        if not self._mine:
            return
        with (
            contextlib.suppress(_Done),
            _same_chance(self._module),
            instead(self._module.decoder, self._piece),
        ):
            decode()

    def _piece(self, tile: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        at, piece = self._next()
        if self._owners[at] != self._world.rank:
            return piece.told(torch.empty(piece.shape, dtype=piece.dtype, device=tile.device))
        before = _chance(self._module)
        made = self._compute(tile, *args, **kwargs)
        self._same &= all(map(torch.equal, before, _chance(self._module)))
        main = made if piece.fields is None else made[0]
        if (tuple(main.shape), main.dtype) != (piece.shape, piece.dtype):
            self._same = False
            main = torch.empty(piece.shape, dtype=piece.dtype, device=main.device)
        # copies: what is next may blend in place
        self._made[at] = main.clone(memory_format=torch.contiguous_format)
        self._read[at] = tile.clone()
        if at == self._mine[-1]:
            raise _Done
        return made

    def _exchange(self) -> None:
        """Afterwards every rank has made all pieces."""
        device = _device(self._module)
        for at, piece in enumerate(self._pieces):
            if at not in self._made:
                self._made[at] = torch.empty(piece.shape, dtype=piece.dtype, device=device)
        self._world.share([(owner, self._made[at]) for at, owner in enumerate(self._owners)])

    def _run_all(self, decode: Callable[[], Any]) -> Any:
        self._at = 0
        with instead(self._module.decoder, self._known):
            return decode()

    def _known(self, tile: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        at, piece = self._next()
        if at in self._read:  # computed from the same as it would have been after all before it
            self._same &= torch.equal(tile, self._read.pop(at))
        return piece.told(self._made.pop(at))

    def _next(self) -> tuple[int, Any]:
        at, self._at = self._at, self._at + 1
        if at >= len(self._pieces):
            raise RuntimeError("the decoding has more pieces than were planned")
        return at, self._pieces[at]


def _compared(module: Any, decode: Callable[[], Any]) -> TilePlan:
    """Some decode in parts by themselves: long videos, a few frames at a time."""
    module.disable_tiling()
    try:
        whole = planned(module, decode)
    finally:
        module.enable_tiling()
    plan = planned(module, decode)
    return replace(plan, alters=not plan.pieces or plan.pieces != whole.pieces)


def _key(module: Any, given: Any) -> Any:
    """What the plan depends on: sizes and dtypes, plain arguments, and the module's own settings,
    which may change while it is loaded."""
    forms = tuple((tuple(each.shape), each.dtype) for each in tensors(given))
    settings = tuple((k, v) for k, v in sorted(vars(module).items()) if _is_plain(v))
    dtype = next(module.decoder.parameters()).dtype
    return id(module), dtype, forms, _plain(given), settings


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _plain(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value if _is_plain(value) else None


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _chance(module: Any) -> list[torch.Tensor]:
    """The states of torch's own random generators, which a decoder may draw from."""
    device = _device(module)
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]


def _restore(states: list[torch.Tensor], module: Any) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, _device(module))


@contextlib.contextmanager
def _same_chance(module: Any) -> Iterator[None]:
    """Afterwards those states are what they were."""
    states = _chance(module)
    try:
        yield
    finally:
        _restore(states, module)


def _device(module: Any) -> torch.device:
    found: torch.device = next(module.decoder.parameters()).device
    return found


def _digest(given: Any) -> int:
    """Ranks that hold other latents have gone apart."""
    hashed = xxhash.xxh3_64()
    for each in tensors(given):
        flat = each.detach().reshape(-1).contiguous().view(torch.uint8)
        hashed.update(flat.cpu().numpy().data)
    return hashed.intdigest()
