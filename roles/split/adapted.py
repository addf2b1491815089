"""A module with LoRA layers in it: of diffusers, or a text encoder of transformers.

Each library has its own words for the same; these are those that diffusers' pipelines use, so that
the numbers are theirs. Nothing is imported before it is needed: some ranks run no diffusers.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

EXPECTED = ("Already found a `peft_config`", "Adapter .* was active which is now deleted")


def adapters_of(module: Any) -> set[str]:
    """The names of those that are in it."""
    return set(getattr(module, "peft_config", None) or ())


def put_on(module: Any, scales: Mapping[str, float]) -> None:
    """These act in its next forwards, each with its scale, and no others. All of them are in it.

    What diffusers' `set_adapters` leaves in each layer, without its way there: peft's `set_adapter`
    goes through all adapters that a layer has, to say which of them may be trained, and with fifty
    of them takes longer than a forward.
    """
    for layer in _layers(module):
        for name, scale in scales.items():
            layer.set_scale(name, scale)
        layer._active_adapter = list(scales)
        layer._disable_adapters = False


def take_off(module: Any) -> None:
    """None acts in its next forwards, whose numbers are those of the plain module."""
    for layer in _layers(module):
        layer._disable_adapters = True


def remove(module: Any, name: str) -> None:
    """Whatever there is of it, and be it half of one that failed to load. Without any others it is
    the plain module again."""
    if not _layers(module):
        return
    if adapters_of(module) <= {name}:
        _strip(module)
        return
    with quietly():
        if _is_of_diffusers(module):
            module.delete_adapters(name)
        else:
            from diffusers.utils.peft_utils import delete_adapter_layers

            delete_adapter_layers(module, name)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """peft warns of several adapters, and of deleting one that acts: both are what is wanted."""
    with warnings.catch_warnings():
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message)
        yield


def _strip(module: Any) -> None:
    if _is_of_diffusers(module):
        module.unload_lora()
        return
    from diffusers.loaders import lora_base

    lora_base._remove_text_encoder_monkey_patch(module)  # type: ignore[no-untyped-call]


def _layers(module: Any) -> list[Any]:
    """Those that adapters were put into."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [part for part in module.modules() if isinstance(part, BaseTunerLayer)]


def _is_of_diffusers(module: Any) -> bool:
    """It has `set_adapters`, which text encoders of transformers have not."""
    return hasattr(module, "load_lora_adapter")
