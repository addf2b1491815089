"""The components of a model folder: which role each belongs to, and how it is loaded.

dtype `auto` gives every component the dtype that a plain `DiffusionPipeline.from_pretrained(path)`
gives it: diffusers' own models in float32 whatever is stored, those of transformers as their config
(or, without one, their first weight) says. A dtype that is named is that of
`from_pretrained(path, dtype=...)`, parts that the model keeps in float32 included.
"""

import contextlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import diffusers
import torch
import transformers
from safetensors import safe_open

from roles.split import skeleton
from roles.split.face import StandIn, Unposed
from roles.split.files import quantized, single_file
from roles.split.files.folder import ComponentEntry, Folder, weights_in
from roles.split.files.lone_file import LoneFile
from roles.split.program import ModelError
from roles.split.quirks import PART_OF_CONFIG, poses
from roles.split.weights.quantizing import quantization_config

if TYPE_CHECKING:
    from roles.split.parallel.tensor import Shares

Part = Literal["encoder", "denoiser", "decoder"]
DType = Literal["auto", "float32", "bfloat16", "float16"]

# by the words that model_index.json uses for components; what is neither is an encoder
_DECODER = re.compile(
    r"vae|vqgan|movq|vqvae|vq_model|vocoder|safety_checker|sound_tokenizer|latent_upsampler"
)
_DENOISER = re.compile(
    r"(unconditional_)?transformer|(\w+_)?unet|controlnet|dit|denoiser|motion_adapter|bridge"
    r"|(prior_)?(prior|decoder|language_model)$"
)

# as safetensors writes them
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def part_of(name: str) -> Part:
    """The role that computes with the component of this name."""
    if re.search(rf"(^|_)({_DECODER.pattern})", name):
        return "decoder"
    return "denoiser" if _DENOISER.match(name) else "encoder"


@dataclass(frozen=True)
class Loader:
    """Loads the components of one folder, real or as stand-ins. `quantize`: what the weights of a
    denoiser's become (`roles.split.weights.quantizing`). `shares`: which part of them is read."""

    folder: Folder
    dtype: DType
    device: torch.device
    quantize: str | None = None
    shares: "Shares | None" = None

    def real(self, entry: ComponentEntry, elsewhere: Path | None = None) -> Any:
        """The component with its weights, or with those of a folder `elsewhere`; or, if it has
        none, the tokenizer, processor or scheduler that it is. Raises ModelError."""
        kind, path = component_class(entry), elsewhere or self.folder.of(entry)
        file = None if elsewhere else self.file(entry)
        with self._telling("load", entry, elsewhere):
            if not is_module(kind):
                return kind.from_pretrained(path)
            if file is not None:
                return self._from_file(entry, kind, file)
            if not (weights_in(path) if elsewhere else self.folder.weights(entry)):
                raise FileNotFoundError(f"there is no safetensors file{self._beside(entry)}")
            options = self._options(kind) | self._quantized(kind, entry)
            if elsewhere is None:
                options |= self._variant(kind, entry)
            with self._shared(kind, entry, path) as part:
                return kind.from_pretrained(str(path), **options, **part).to(self.device).eval()

    def file(self, entry: ComponentEntry) -> LoneFile | None:
        """The single file that holds the component's weights; None: they lie in its folder. Raises
        ModelError."""
        file, kind = self.folder.file_of(entry), component_class(entry)
        if file is None or not is_module(kind):
            return None
        if file.is_gguf and not quantized.reads_gguf(kind):
            raise ModelError(
                f"--component {entry.name}: diffusers reads no {kind.__name__} from a GGUF file"
            )
        if file.is_gguf or single_file.holds(file, entry, kind, self.folder.of(entry)):
            return file
        if entry.name in self.folder.replaced:
            raise ModelError(
                f"--component {entry.name}: diffusers finds no {kind.__name__} in {file.name}"
            )
        return None

    def files(self, entry: ComponentEntry) -> list[Path]:
        """Where the component's weights are, fetched if need be."""
        file = self.file(entry)
        return [file.bring()] if file is not None else self.folder.weights(entry)

    def _from_file(self, entry: ComponentEntry, kind: Any, file: LoneFile) -> Any:
        if self.shares is not None and part_of(entry.name) == "denoiser":
            raise ModelError(
                f"--parallel tensor divides the weights of folders, not of {file.name}"
            )
        if file.is_gguf:
            self._check_plain(entry)
            home, dtype = self.folder.of(entry), self._named_dtype()
            return quantized.read_gguf(file, entry.name, kind, home, dtype).to(self.device)
        options = self._quantized(kind, entry)
        dtype = options.pop("dtype", None if self.dtype == "auto" else getattr(torch, self.dtype))
        module = single_file.read(file, entry, self.folder.path, dtype, **options)
        return module.to(self.device).eval()

    def _beside(self, entry: ComponentEntry) -> str:
        """What to do where a checkpoint has not all of its pipeline."""
        if self.folder.file is None or entry.name in self.folder.replaced:
            return ""
        return f", nor is it in the file: name one with --component {entry.name}=…"

    def _shared(
        self, kind: Any, entry: ComponentEntry, path: Path
    ) -> contextlib.AbstractContextManager[dict[str, Any]]:
        if self.shares is None or part_of(entry.name) != "denoiser":
            return contextlib.nullcontext({})
        return self.shares.reading(kind, path)

    def stand_in(self, entry: ComponentEntry) -> Any:
        """The component without its weights. What is no module has none and is loaded."""
        kind = component_class(entry)
        if not is_module(kind):
            return self.real(entry)
        with self._telling("read", entry):
            module = self._skeleton(kind, entry)
        beside = {entry.name for entry in self.folder.components}
        face = StandIn if poses(entry.name, beside) else Unposed
        return face(entry.name, module, self.device)

    @contextlib.contextmanager
    def _telling(
        self, verb: str, entry: ComponentEntry, elsewhere: Path | None = None
    ) -> Iterator[None]:
        """Makes one sentence of whatever goes wrong with a component."""
        try:
            yield
        except ModelError:
            raise
        except Exception as error:
            place = elsewhere or self.folder.name
            message = f"{place}: cannot {verb} {entry.name}: {brief(error)}"
            raise ModelError(message) from error

    def _options(self, kind: Any) -> dict[str, Any]:
        dtype = None if self.dtype == "auto" else getattr(torch, self.dtype)
        options = {"use_safetensors": True} if _is_ours(kind) or _is_theirs(kind) else {}
        return options if dtype is None else options | {"dtype": dtype}

    def _variant(self, kind: Any, entry: ComponentEntry) -> dict[str, Any]:
        variant = self.folder.place(entry).variant
        return {"variant": variant} if variant and (_is_ours(kind) or _is_theirs(kind)) else {}

    def _quantized(self, kind: Any, entry: ComponentEntry) -> dict[str, Any]:
        if not _is_ours(kind) or not hasattr(kind, "load_config"):  # several of a kind have none
            return {}
        # named, or diffusers would make it bfloat16, which the other roles know nothing of
        dtype = {"dtype": torch.float32} if self.dtype == "auto" else {}
        if method := quantized.method_of(kind.load_config(self.folder.of(entry))):
            self._check_plain(entry)
            quantized.check_library(method, entry.name)
            return dtype
        if self.quantize is None or part_of(entry.name) != "denoiser":
            return {}
        return {"quantization_config": quantization_config(self.quantize), **dtype}

    def _check_plain(self, entry: ComponentEntry) -> None:
        """Raises ModelError if what was quantized should be so once more."""
        if self.quantize and part_of(entry.name) == "denoiser":
            raise ModelError(f"--quantize: the weights of {entry.name} are quantized already")

    def _skeleton(self, kind: Any, entry: ComponentEntry) -> Any:
        path, file = self.folder.of(entry), self.file(entry)
        if _is_theirs(kind):
            config = kind.config_class.from_pretrained(path)
            if part := PART_OF_CONFIG.get(kind.__name__):
                config = getattr(config, part)
            if file is not None:
                dtype = self._named_dtype()
                return skeleton.build(lambda: kind(config), dtype, single_file.kept(kind, dtype))
            dtype = self._stored_dtype(entry, config)
            keep = _kept(kind, "_keep_in_fp32_modules_strict")
            if dtype == torch.float16:
                keep += _kept(kind, "_keep_in_fp32_modules")
            return skeleton.build(lambda: kind(config), dtype, keep)
        if not hasattr(kind, "load_config"):  # several of a kind, each in a folder of its own
            several = kind.from_pretrained(str(path), **self._options(kind))
            return skeleton.hollow_copy(several).eval()
        config = kind.load_config(path)
        dtype = self._named_dtype()
        plain = file is not None and not file.is_gguf
        keep = [] if plain else _kept(kind, "_keep_in_fp32_modules")
        module = skeleton.build(lambda: kind.from_config(config), dtype, keep)
        if file is not None:
            if part_of(entry.name) != "denoiser" and any(skeleton.stored_buffers(module)):
                return skeleton.hollow_copy(self._from_file(entry, kind, file))
        elif part_of(entry.name) != "denoiser":
            self._fill(module, entry, dtype)
        return module

    def _named_dtype(self) -> torch.dtype:
        if self.dtype == "auto":
            return torch.float32
        return getattr(torch, self.dtype)  # type: ignore[no-any-return]

    def _stored_dtype(self, entry: ComponentEntry, config: Any) -> torch.dtype:
        if self.dtype != "auto":
            return getattr(torch, self.dtype)  # type: ignore[no-any-return]
        if config.dtype is not None:
            return config.dtype  # type: ignore[no-any-return]
        stored = self.folder.place(entry).stored_dtype()
        return _DTYPES.get(stored or "F32", torch.float32)

    def _fill(self, module: Any, entry: ComponentEntry, dtype: torch.dtype) -> None:
        """Reads the few numbers that pipelines want from a checkpoint: the statistics of a VAE's
        latents, which some keep in buffers, or what an encoder of conditions has for silence or
        for no condition, in buffers or parameters of its own."""
        missing = set(skeleton.stored_buffers(module))
        if part_of(entry.name) == "encoder":
            missing |= module._parameters.keys()
        for path in self.folder.weights(entry) if missing else ():
            with safe_open(path, "pt", device=str(self.device)) as file:
                for name in missing & set(file.keys()):
                    value = file.get_tensor(name)
                    skeleton.set_tensor(
                        module, name, value.to(dtype) if value.is_floating_point() else value
                    )
                missing -= set(file.keys())
        if missing:
            raise ModelError(
                f"{self.folder.name}: every role needs the weights file of {entry.name}, "
                f"which holds {min(missing)}"
            )


def component_class(entry: ComponentEntry) -> Any:
    """The class that a model_index.json names, from diffusers or transformers only."""
    home: Any = {"diffusers": diffusers, "transformers": transformers}.get(entry.library)
    if home is None:
        home = getattr(diffusers.pipelines, entry.library, None)
    found = getattr(home, entry.class_name, None)
    if not inspect.isclass(found):
        raise ModelError(
            f"the component {entry.name} is a {entry.library}.{entry.class_name}, "
            "which the installed diffusers and transformers do not have"
        )
    return found


def is_module(kind: Any) -> bool:
    return issubclass(kind, torch.nn.Module)


def brief(error: BaseException) -> str:
    """The first sentence of somebody else's error."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:300]


def _is_ours(kind: Any) -> bool:
    return issubclass(kind, diffusers.ModelMixin)


def _is_theirs(kind: Any) -> bool:
    return issubclass(kind, transformers.PreTrainedModel)


def _kept(kind: Any, attribute: str) -> list[str]:
    return list(getattr(kind, attribute, None) or ())
