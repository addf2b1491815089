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


class Adapted:
    """A module, and the adapters that were loaded into it.

    Those that do not act lie aside. peft makes each adapter a few parts of every layer that it
    changes, and whoever goes through all of a module's parts (diffusers does, whenever a pipeline
    asks for its dtype or its device) would pass those of fifty for one that acts.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._layers: list[Any] | None = None  # that adapters are in; None: to be found
        self._aside: dict[str, list[tuple[Any, Any]]] = {}  # by adapter: parts, and where they were
        self._acting: list[tuple[str, float]] | None = None  # None: nobody knows

    @property
    def names(self) -> set[str]:
        """Of all of them, wherever they lie."""
        return adapters_of(self._module)

    def act(self, scales: Mapping[str, float]) -> None:
        """These act in its next forwards, each with its scale, and no others; all of them were
        loaded. Without any, the numbers are those of the plain module.

        What diffusers' `set_adapters` leaves in each layer, without its way there.
        """
        wanted = list(scales.items())
        if self._acting == wanted or not self.names:
            return
        for name in self.names - scales.keys():
            self._put_aside(name)
        for name in scales:
            self._bring(name)
        for layer in self._found():
            for name, scale in wanted:
                layer.set_scale(name, scale)
            layer._active_adapter = [name for name, _ in wanted]
            layer._disable_adapters = not wanted
        self._acting = wanted

    def gather(self) -> None:
        """All of them are among its parts, to be moved with them."""
        for name in list(self._aside):
            self._bring(name)
        self.changed()

    def changed(self) -> None:
        """Something was loaded into it, which acts if it was the last."""
        self._layers = self._acting = None

    def remove(self, name: str) -> None:
        """Whatever there is of it, and be it half of one that failed to load. Without any others it
        is the plain module again."""
        self._bring(name)
        remove(self._module, name)
        self.changed()

    def _found(self) -> list[Any]:
        if self._layers is None:
            self._layers = _layers(self._module)
        return self._layers

    def _put_aside(self, name: str) -> None:
        if name in self._aside:
            return
        holders = [each for layer in self._found() for each in _holders(layer) if name in each]
        self._aside[name] = [(holder, holder.pop(name)) for holder in holders]

    def _bring(self, name: str) -> None:
        for holder, part in self._aside.pop(name, ()):
            holder[name] = part


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """peft warns of several adapters, and of deleting one that acts: both are what is wanted."""
    with warnings.catch_warnings():
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message)
        yield


def remove(module: Any, name: str) -> None:
    """One of its adapters, or what there is of it."""
    layers = _layers(module)
    if not layers:
        return
    if all(set(layer.scaling) <= {name} for layer in layers):  # some may be another module's too
        _strip(module)
        return
    with quietly():
        if _is_of_diffusers(module):
            module.delete_adapters(name)
        else:
            from diffusers.utils.peft_utils import delete_adapter_layers

            delete_adapter_layers(module, name)  # type: ignore[no-untyped-call]


def _strip(module: Any) -> None:
    if _is_of_diffusers(module):
        module.unload_lora()
        return
    from diffusers.loaders import lora_base

    lora_base._remove_text_encoder_monkey_patch(module)  # type: ignore[no-untyped-call]


def _holders(layer: Any) -> list[Any]:
    """What has one part per adapter. What the layer itself computes with is none of them."""
    from torch.nn import ModuleDict, ParameterDict

    return [each for each in layer.children() if isinstance(each, ModuleDict | ParameterDict)]


def _layers(module: Any) -> list[Any]:
    """Those that adapters were put into."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [part for part in module.modules() if isinstance(part, BaseTunerLayer)]


def _is_of_diffusers(module: Any) -> bool:
    """It has `set_adapters`, which text encoders of transformers have not."""
    return hasattr(module, "load_lora_adapter")
