"""LoRA adapters of a role's modules, denoisers and text encoders, through the pipeline's own
`load_lora_weights`.

An adapter that is loaded changes nothing by itself: each forward of a denoiser, and each piece of a
pipeline that runs, says which ones it wants, and how much of each, and they are put on, or off,
before that. So requests with different adapters take turns on one module, and one without any gets
the plain one's bits.

Many adapters change denoisers and text encoders, which may be in different roles: each attaches the
parts of a file that it has the modules for.
"""

import contextlib
import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roles.refusals import Unsupported
from roles.split.face import StandIn
from roles.split.weights.adapted import Adapted, quietly
from roles.split.weights.adapter_file import Elsewhere, Reader, identified
from transfer.actions import LoraFile, LoraLoaded, Loras, LoraUnloaded
from transfer.messages import Lora, Speed
from transfer.speed import why_fixed

LOADERS = "load_lora_into_"  # how a pipeline's methods begin that give a module its part of a file
LOCAL = {"local_files_only": True, "use_safetensors": True}


class AdapterGone(Exception):
    """A request wants one that is not loaded here: other instances may have it."""


class Adapters:
    """All adapters of one program. `denoisers`: its real ones, by component name; `encoders`: what
    is real besides, of which the pipeline says what adapters may change. None of both: this role
    has no use for adapters."""

    def __init__(
        self,
        pipeline: Any,
        denoisers: Mapping[str, Any],
        speed: Speed | None,
        encoders: Mapping[str, Any],
    ) -> None:
        self._pipeline = pipeline
        self._loadable: list[str] = list(getattr(pipeline, "_lora_loadable_modules", ()))
        self._encoders = {name for name in encoders if name in self._loadable}
        mine = {name: encoders[name] for name in encoders if name in self._loadable}
        self._modules = {**denoisers, **mine}
        self._adapted = {name: Adapted(module) for name, module in self._modules.items()}
        self._sharing = _sharing(self._modules)
        self._speed = speed
        self._files: dict[str, LoraFile] = {}

    @property
    def components(self) -> list[str]:
        """What is here that adapters may change."""
        return [name for name in self._modules if name in self._loadable]

    def load(self, name: str, path: str) -> LoraLoaded:
        """The same file again is nothing new; of that name and other contents there cannot be two.
        Of a file that is for other roles alone, nothing is attached. Raises `Unsupported`,
        FileNotFoundError, ValueError, and what diffusers raises; then nothing has changed."""
        self._check_supported()
        digest, nbytes = identified(path)
        known = self._files.get(name)
        if known is not None and known.digest == digest:
            return LoraLoaded(known, fresh=False)
        if known is not None:
            raise ValueError(f"another adapter {name} is loaded, of {known.path}; unload it first")
        parts = self._attach(name, path)
        file = self._files[name] = LoraFile(name, path, digest, nbytes, parts)
        return LoraLoaded(file)

    def unload(self, name: str) -> LoraUnloaded:
        """Whether there was one or not. Raises `Unsupported`."""
        self._check_supported()
        self._remove(name)
        return LoraUnloaded(name, self._files.pop(name, None) is not None)

    def put_away(self) -> None:
        """Takes all of them out of the modules, which are the plain ones then."""
        for name in self._files:
            self._remove(name)

    def bring_back(self) -> None:
        """What was put away. Raises ValueError if a file has changed, and what `load` does; then
        all are put away."""
        try:
            for file in self._files.values():
                if identified(file.path)[0] != file.digest:
                    raise ValueError(f"adapter {file.name}: {file.path} has changed on disk")
                self._attach(file.name, file.path)
        except BaseException:
            self.put_away()
            raise

    @property
    def loaded(self) -> Loras:
        return Loras(list(self._files.values()))

    def worn(self, loras: Sequence[Lora]) -> "Worn":
        """For what one request computes here. Raises `AdapterGone`."""
        for lora in loras if self.components else ():
            if lora.name not in self._files:
                known = ", ".join(self._files) or "none"
                text = f"there is no adapter {lora.name!r} here any more; loaded: {known}"
                raise AdapterGone(text)
        return Worn(self, tuple(loras))

    def gather(self) -> None:
        """All of them are parts of the modules, for what goes through these."""
        for each in self._adapted.values():
            each.gather()

    def put_on(self, name: str, loras: Sequence[Lora]) -> None:
        """These and no others act in the component's next forwards, as far as they change it, or
        parts of others that it computes with."""
        for each in self._sharing.get(name, ()) if self._files else ():
            self._act(self._adapted[each], loras)

    def _act(self, each: Adapted, loras: Sequence[Lora]) -> None:
        here = each.names
        scales = {_within(lora.name): lora.scale for lora in loras}
        each.act({inner: scale for inner, scale in scales.items() if inner in here})

    def put_on_all(self, loras: Sequence[Lora]) -> None:
        """The same of whatever is here."""
        for name in self._adapted:
            self.put_on(name, loras)

    def of_text(self, loras: Sequence[Lora]) -> tuple[tuple[str, float], ...]:
        """What tells these from others to whoever encodes here: digests and scales, of those that
        change anything of that."""
        changing = set().union(*(self._adapted[name].names for name in self._encoders))
        mine = (lora for lora in loras if _within(lora.name) in changing)
        return tuple((self._files[lora.name].digest, float(lora.scale)) for lora in mine)

    # ------------------------------------------------------------ how diffusers does it

    def _check_supported(self) -> None:
        kind = type(self._pipeline).__name__
        if not hasattr(self._pipeline, "load_lora_weights"):
            raise Unsupported(f"diffusers loads no LoRA into a {kind}")
        if not self.components:
            raise Unsupported("this role has nothing that adapters change")
        speed = self._speed
        if (reason := why_fixed(speed)) is not None:
            raise Unsupported(f"{reason}, and diffusers' plan has none for adapters")
        if speed is not None and (speed.compile or speed.quantize):
            flag = "--compile" if speed.compile else "--quantize"
            raise Unsupported(f"this denoiser was started with {flag}, which fixes its weights")

    def _attach(self, name: str, path: str) -> list[str]:
        """The components that it changes now."""
        reader = Reader(self._pipeline.lora_state_dict, self._loadable, self._away())
        try:
            with quietly(), contextlib.suppress(Elsewhere):
                self._view(reader).load_lora_weights(path, adapter_name=_within(name), **LOCAL)
            attached = any(_within(name) in each.names for each in self._adapted.values())
            if reader.parts and not attached:
                raise ValueError(f"{path}: it has nothing that fits {', '.join(self._modules)}")
        except BaseException:
            self._remove(name)
            raise
        finally:
            for each in self._adapted.values():
                each.changed()
        return reader.parts

    def _away(self) -> set[str]:
        """What other roles compute with."""
        parts = ((name, getattr(self._pipeline, name, None)) for name in self._loadable)
        return {name for name, part in parts if isinstance(part, StandIn)}

    def _view(self, reader: Reader) -> Any:
        """The pipeline, which reads what is for the modules that are here, and leaves the others
        alone."""
        view = copy.copy(self._pipeline)
        own = view.__dict__
        own["lora_state_dict"] = reader
        for method in dir(type(view)):
            if method.startswith(LOADERS):
                own[method] = self._into_mine(getattr(view, method))
        return view

    def _into_mine(self, load: Callable[..., Any]) -> Callable[..., Any]:
        mine = {id(module) for module in self._modules.values()}

        @functools.wraps(load)
        def into(*args: Any, **kwargs: Any) -> Any:
            given = (*args, *kwargs.values())
            return load(*args, **kwargs) if any(id(each) in mine for each in given) else None

        return into

    def _remove(self, name: str) -> None:
        for each in self._adapted.values():
            each.remove(_within(name))


def _sharing(modules: Mapping[str, Any]) -> dict[str, list[str]]:
    """Of each component those that have any part in common with it, itself included: Z-Image's
    ControlNets compute with embedders and blocks of the transformer."""
    parts = {name: {id(part) for part in module.modules()} for name, module in modules.items()}
    return {
        name: [other for other, its in parts.items() if not own.isdisjoint(its)]
        for name, own in parts.items()
    }


def _within(name: str) -> str:
    """What an adapter is called within the modules. transformers takes each weight for one of the
    adapter's whose name contains the adapter's, and thinks that it lacks what is not in the file:
    so this is no part of any other name."""
    return f"lora_{name}"


@dataclass(frozen=True)
class Worn:
    """What one request has on."""

    adapters: Adapters
    loras: tuple[Lora, ...]

    def on(self, name: str) -> None:
        """Before a forward of this component."""
        self.adapters.put_on(name, self.loras)

    def on_all(self) -> None:
        """Before the request's pipeline runs on."""
        self.adapters.put_on_all(self.loras)

    @property
    def of_text(self) -> tuple[tuple[str, float], ...]:
        """By what its encodings are told from those of others."""
        return self.adapters.of_text(self.loras)
