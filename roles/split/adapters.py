"""LoRA adapters of a role's denoisers, through the pipeline's own `load_lora_weights`.

An adapter that is loaded changes nothing by itself: each forward says which ones it wants, and how
much of each, and they are put on, or off, before it runs. So requests with different adapters take
turns on one transformer, and one without any gets the plain one's bits.
"""

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from roles.refusals import Unsupported
from transfer.actions import LoraFile, LoraLoaded, Loras, LoraUnloaded
from transfer.messages import Lora, Speed
from transfer.speed import why_fixed

READ_BYTES = 1 << 20
EXPECTED = ("Already found a `peft_config`", "Adapter .* was active which is now deleted")
OF_TEXT = ("load_lora_into_text_encoder", "load_lora_into_text_conditioner")


class AdapterGone(Exception):
    """A request wants one that is not loaded here: other instances may have it."""


class Adapters:
    """All adapters of one program. `denoisers`: its real ones, by component name; none: this role
    does not denoise."""

    def __init__(self, pipeline: Any, denoisers: Mapping[str, Any], speed: Speed | None) -> None:
        self._pipeline = pipeline
        self._denoisers = dict(denoisers)
        self._speed = speed
        self._files: dict[str, LoraFile] = {}
        self._worn: dict[str, tuple[Lora, ...]] = {}  # by component; what is put on now

    def load(self, name: str, path: str) -> LoraLoaded:
        """The same file again is nothing new; of that name and other contents there cannot be two.
        Raises `Unsupported`, FileNotFoundError, ValueError, and what diffusers raises; then nothing
        has changed."""
        self._check_supported()
        digest, nbytes = _identified(path)
        known = self._files.get(name)
        if known is not None and known.digest == digest:
            return LoraLoaded(known, fresh=False)
        if known is not None:
            raise ValueError(f"another adapter {name} is loaded, of {known.path}; unload it first")
        parts = self._parts(path)
        self._attach(name, path)
        file = self._files[name] = LoraFile(name, path, digest, nbytes, parts)
        return LoraLoaded(file)

    def _attach(self, name: str, path: str) -> None:
        try:
            with quietly():
                self._view().load_lora_weights(path, adapter_name=name, **LOCAL)
            if not any(name in _adapters_of(module) for module in self._denoisers.values()):
                raise ValueError(f"{path}: it has nothing for {', '.join(self._denoisers)}")
        except BaseException:
            self._remove(name)
            raise
        finally:
            self._worn.clear()  # what was loaded last is active

    def unload(self, name: str) -> LoraUnloaded:
        """Whether there was one or not."""
        self._remove(name)
        self._worn.clear()
        return LoraUnloaded(name, self._files.pop(name, None) is not None)

    def put_away(self) -> None:
        """Takes all of them out of the modules, which are the plain ones then."""
        for name in self._files:
            self._remove(name)
        self._worn.clear()

    def bring_back(self) -> None:
        """What was put away. Raises ValueError if a file has changed, and what `load` does; then
        all are put away."""
        try:
            for file in self._files.values():
                if _identified(file.path)[0] != file.digest:
                    raise ValueError(f"adapter {file.name}: {file.path} has changed on disk")
                self._attach(file.name, file.path)
        except BaseException:
            self.put_away()
            raise

    @property
    def loaded(self) -> Loras:
        return Loras(list(self._files.values()))

    def worn(self, loras: Sequence[Lora]) -> "Worn":
        """For the forwards of one request. Raises `AdapterGone`."""
        for lora in loras:
            if lora.name not in self._files:
                known = ", ".join(self._files) or "none"
                text = f"there is no adapter {lora.name!r} here any more; loaded: {known}"
                raise AdapterGone(text)
        return Worn(self, tuple(loras))

    def put_on(self, name: str, module: Any, loras: tuple[Lora, ...]) -> None:
        """These and no others act in the component's next forwards."""
        if not self._files or self._worn.get(name) == loras:
            return
        here = _adapters_of(module)
        mine = [lora for lora in loras if lora.name in here]
        if mine:
            module.enable_lora()
            module.set_adapters([lora.name for lora in mine], [lora.scale for lora in mine])
        elif here:
            module.disable_lora()
        self._worn[name] = loras

    # ------------------------------------------------------------ how diffusers does it

    def _check_supported(self) -> None:
        kind = type(self._pipeline).__name__
        if not self._denoisers:
            raise Unsupported("this role runs no transformer")
        if not hasattr(self._pipeline, "load_lora_weights"):
            raise Unsupported(f"diffusers loads no LoRA into a {kind}")
        speed = self._speed
        if (reason := why_fixed(speed)) is not None:
            raise Unsupported(f"{reason}, and diffusers' plan has none for adapters")
        if speed is not None and (speed.compile or speed.quantize):
            flag = "--compile" if speed.compile else "--quantize"
            raise Unsupported(f"this denoiser was started with {flag}, which fixes its weights")

    def _parts(self, path: str) -> list[str]:
        """The components that the file changes. Raises `Unsupported` if one is elsewhere."""
        read = self._pipeline.lora_state_dict(path, **LOCAL)
        weights: Mapping[str, Any] = read[0] if isinstance(read, tuple) else read
        loadable = set(self._pipeline._lora_loadable_modules)
        parts = sorted({key.partition(".")[0] for key in weights} & loadable)
        for part in parts:
            if part not in self._denoisers:
                text = f"{path} also changes {part}, which does not get adapters here"
                raise Unsupported(text)
        return parts

    def _view(self) -> Any:
        """The pipeline, which leaves the parts alone that are not there."""
        view = copy.copy(self._pipeline)
        for method in OF_TEXT:
            if hasattr(view, method):
                view.__dict__[method] = lambda *args, **kwargs: None
        return view

    def _remove(self, name: str) -> None:
        for module in self._denoisers.values():
            here = _adapters_of(module)
            if here == {name}:
                module.unload_lora()  # it is the plain module again
            elif name in here:
                with quietly():
                    module.delete_adapters(name)


LOCAL = {"local_files_only": True, "use_safetensors": True}


@dataclass(frozen=True)
class Worn:
    """What one request's forwards have on."""

    adapters: Adapters
    loras: tuple[Lora, ...]

    def on(self, name: str, module: Any) -> None:
        self.adapters.put_on(name, module, self.loras)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """peft warns of several adapters, and of deleting one that acts: both are what is wanted."""
    with warnings.catch_warnings():
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message)
        yield


def _adapters_of(module: Any) -> set[str]:
    return set(getattr(module, "peft_config", None) or ())


def _identified(path: str) -> tuple[str, int]:
    """The hash of the adapter's bytes, and how many there are. Raises FileNotFoundError."""
    place = Path(path)
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if not files or not all(file.is_file() for file in files):
        raise FileNotFoundError(f"there is no .safetensors file at {path}")
    hasher, nbytes = xxhash.xxh3_128(), 0
    for file in files:
        with file.open("rb") as opened:
            while data := opened.read(READ_BYTES):
                hasher.update(data)
                nbytes += len(data)
    return hasher.hexdigest(), nbytes
