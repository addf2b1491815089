"""Step caching of one request: diffusers' own hooks, on the shared transformer only while they are
this request's turn.

The hooks of diffusers keep what they saved in themselves, and skip blocks of whoever calls. So each
request has hooks of its own, made by diffusers from the request's config, and they are put on for
its forwards and taken off after each: between them the transformer is exactly what it was, for
requests without a cache and for those with another one.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import diffusers.hooks
import torch
from diffusers.hooks._helpers import TransformerBlockRegistry
from diffusers.hooks.hooks import CacheContext, HookRegistry, _set_cache_context

from roles.split.program import Unavailable
from roles.split.quirks import CACHED_INPUTS
from transfer.messages import StepCache, StepCacheType
from transfer.speed import DEFAULTS

hooks: Any = diffusers.hooks  # which exports without saying so
NO_CONTEXT = "forward"  # the name of the only context of pipelines that name none
_KEPT = ("forward", "_diffusers_hook", "_cache_config", "_compiled_call_impl")
_ABSENT = object()


class Unsupported(Exception):
    """This transformer, or this pipeline, has no step cache of this type. Says why."""


class Hooks:
    """The hooks of one request on one transformer. `now` tells its timestep; for `pyramid`.

    `with hooks.on(context, fields):` around each of the request's forwards; `forget()` when there
    are no more. Raises `Unsupported`.
    """

    def __init__(
        self, module: Any, cache: StepCache, now: Callable[[], Any] = lambda: None
    ) -> None:
        self._module = module
        self._cache = cache
        self._now = now
        self._at: Any = _ABSENT
        before = {part: _own(part) for part in module.modules()}
        for part in before:
            part.__dict__.pop("_diffusers_hook", None)  # other hooks stay, underneath
        try:
            _apply(module, cache, now)
            self._mounted = {part: _own(part) for part in before if _changed(part, before[part])}
        finally:
            for part, attributes in before.items():
                _put(part, attributes)
        if len(self._mounted) < 2:  # the transformer itself, and no part of it
            raise Unsupported(f"none of its parts is one that {cache.type} knows")
        self._call_compiled()

    @contextlib.contextmanager
    def on(self, context: str | None, fields: Mapping[str, Any]) -> Iterator[None]:
        self._check_turns()
        before = {part: _own(part) for part in self._mounted}
        try:
            for part, attributes in self._mounted.items():
                _put(part, attributes)
            _set_cache_context(self._module, CacheContext(context or NO_CONTEXT, **fields))
            yield
        finally:
            _set_cache_context(self._module, None)
            for part, attributes in before.items():
                _put(part, attributes)

    def _check_turns(self) -> None:
        """`pyramid` counts forwards, whatever they are for: with two in a step, it would give one
        branch of guidance what it has of the other."""
        if self._cache.type == "pyramid":
            before, self._at = self._at, self._now()
            if self._at is before:  # the very object: some samplers visit a timestep twice
                words = (
                    "step_cache pyramid does not go with guidance whose branches are two forwards, "
                    "as here; first_block and taylorseer do"
                )
                raise Unavailable(words, "step_cache")

    def forget(self) -> None:
        """Lets go of the tensors that they keep."""
        for part, attributes in self._mounted.items():
            for hook in _hooks(attributes["_diffusers_hook"]):
                if hook._is_stateful:
                    hook.reset_state(part)

    def _call_compiled(self) -> None:
        """A hook on a compiled block runs as it is, and what it calls is the block that was
        compiled without it: nothing is compiled for a request."""
        for block in self._module.modules():
            if block._compiled_call_impl is None:
                continue
            if any(part in self._mounted for part in block.modules() if part is not block):
                raise Unsupported(f"{self._cache.type} reaches into blocks that --compile compiled")
            if block in self._mounted:
                (hook,) = _hooks(self._mounted[block]["_diffusers_hook"])
                hook.fn_ref.original_forward = _bare(block, block._compiled_call_impl)
                self._mounted[block]["_compiled_call_impl"] = None


def _bare(block: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    def bare(*args: Any, **kwargs: Any) -> Any:
        hooked = block.__dict__.pop("forward")
        try:
            return compiled(*args, **kwargs)
        finally:
            block.__dict__["forward"] = hooked

    return bare


def _hooks(registry: HookRegistry) -> list[Any]:
    return list(registry.hooks.values())


def supported(pipeline: Any, module: Any) -> list[StepCacheType]:
    """The types that this transformer has in this pipeline; with weights or without."""
    kinds: list[StepCacheType] = ["first_block", "taylorseer", "pyramid"]
    return [kind for kind in kinds if why_not(pipeline, module, kind) is None]


def why_not(pipeline: Any, module: Any, kind: StepCacheType) -> str | None:
    """Why there is no step cache of this type; None if there is."""
    if not isinstance(module, torch.nn.Module):
        return "it is no module"
    if kind == "pyramid" and not hasattr(type(pipeline), "current_timestep"):
        return f"{type(pipeline).__name__} does not tell its timestep"
    try:
        Hooks(module, DEFAULTS[kind])
    except Unsupported as error:
        return str(error)
    return None


# ---------------------------------------------------------------- diffusers' own switches


def _apply(module: Any, cache: StepCache, now: Callable[[], Any]) -> None:
    """Registers the hooks, as `enable_cache` does for the models that have it."""
    try:
        match cache.type:
            case "first_block":
                _know_inputs(module)
                config = hooks.FirstBlockCacheConfig(threshold=cache.threshold)
                hooks.apply_first_block_cache(module, config)
                _check_inputs(module)
            case "taylorseer":
                config = hooks.TaylorSeerCacheConfig(cache_interval=cache.interval)
                hooks.apply_taylorseer_cache(module, config)
            case "pyramid":
                config = hooks.PyramidAttentionBroadcastConfig(
                    spatial_attention_block_skip_range=cache.interval,
                    current_timestep_callback=now,
                )
                hooks.apply_pyramid_attention_broadcast(module, config)
            case _:
                raise Unsupported(f"there is no step cache {cache.type}")
    except (ValueError, IndexError, AttributeError) as error:
        raise Unsupported(f"diffusers cannot apply it: {error}") from error
    registry = HookRegistry.check_if_exists_or_initialize(module)
    registry.invalidate_child_registries_cache()
    module._cache_config = config


def _know_inputs(module: Any) -> None:
    for part in module.modules():
        if (place := CACHED_INPUTS.get(type(part).__name__)) is not None:
            metadata = TransformerBlockRegistry.get(type(part))
            metadata._cached_parameter_indices = {"hidden_states": place}


def _check_inputs(module: Any) -> None:
    """The blocks' inputs are found by name, or by a quirk; otherwise the first forward would
    fail."""
    for part in module.modules():
        registry = part.__dict__.get("_diffusers_hook")
        for hook in _hooks(registry) if registry else ():
            known = hook._metadata._cached_parameter_indices or {}
            named = inspect.signature(type(part).forward).parameters
            if "hidden_states" not in known and "hidden_states" not in named:
                raise Unsupported(f"{type(part).__name__} does not call its input hidden_states")


# ---------------------------------------------------------------- what hooks change in a module


def _own(part: Any) -> dict[str, Any]:
    return {name: part.__dict__.get(name, _ABSENT) for name in _KEPT}


def _changed(part: Any, before: dict[str, Any]) -> bool:
    now = _own(part)
    hooked = now["_diffusers_hook"] is not _ABSENT
    return hooked or any(now[name] is not before[name] for name in ("forward", "_cache_config"))


def _put(part: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        if value is _ABSENT:
            part.__dict__.pop(name, None)
        else:
            part.__dict__[name] = value
