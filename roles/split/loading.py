"""A model folder, or a hub id, to a `Program` for some roles."""

import logging
import os
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from msgspec.structs import replace

from roles.origins import NOTHING, Origins
from roles.split.classic import ClassicProgram
from roles.split.face import StandIn
from roles.split.files.components import DType, Loader, brief, component_class, is_module, part_of
from roles.split.files.fingerprint import fingerprint, of_component
from roles.split.files.folder import Folder, find
from roles.split.files.kinds import check_kinds
from roles.split.modular import stages
from roles.split.modular.loading import is_modular, modular_pipeline
from roles.split.modular.program import ModularProgram
from roles.split.parallel.context import divide_tokens
from roles.split.parallel.tensor import Shares
from roles.split.parallel.tiles import divide_tiles
from roles.split.program import ModelError, Program, Unsplittable
from roles.split.request.given import media_arguments
from roles.split.request.structures import structures
from roles.split.view import Pipeline, inner_pipelines
from roles.split.weights.attention import set_backend
from roles.split.weights.compiling import compile_blocks
from roles.split.weights.exchange import Exchange
from roles.split.weights.sleeper import Part, Sleeper
from transfer.messages import DECODES, DENOISES, ModelInfo, Replaced, Role, Speed

if TYPE_CHECKING:
    from roles.rank.world import World


log = logging.getLogger(__name__)

_SEVERAL = "it is made of several pipelines"


def load(
    model: str | os.PathLike[str],
    roles: Collection[Role],
    dtype: DType = "auto",
    device: str | torch.device = "cpu",
    speed: Speed | None = None,
    world: "World | None" = None,
    origins: Origins = NOTHING,
) -> Program:
    """Loads what these roles compute with, and stand-ins without weights for the rest.

    `dtype` auto is the dtype of a plain `DiffusionPipeline.from_pretrained(model)`, for each
    component; any other that of `from_pretrained(model, dtype=...)`. `speed`: how a transformer
    that is loaded here is to run; None: as in the plain pipeline. `world`: the ranks with which it
    divides the tokens or weights of a forward, where `speed.context` says so, and tiles. `origins`:
    where the model comes from, beside its name. Raises ModelError with one sentence for people;
    Unsplittable if the model runs, but not in these roles.

    Turns off gradients in this thread for good: pipelines of several requests take turns here, and
    their own `no_grad` blocks would end in each other's.
    """
    torch.set_grad_enabled(False)
    _quiet()
    try:
        return _load(find(model, origins), roles, dtype, torch.device(device), speed, world)
    except OSError as error:
        raise ModelError(f"{os.fspath(model)} cannot be read: {brief(error)}") from error


def outline(folder: Folder, dtype: DType = "auto") -> ClassicProgram | ModularProgram:
    """The pipeline without any weights, for what can be told from its configs. Raises ModelError.

    A model that cannot be split has one too.
    """
    program = _outline(folder, dtype)
    program.info = _told(program.info, folder)
    return program


def _outline(folder: Folder, dtype: DType) -> ClassicProgram | ModularProgram:
    _quiet()
    check_kinds(folder)
    device = torch.device("cpu")
    loader, name, digest = Loader(folder, dtype, device), _name(folder), fingerprint(folder)
    _check_file(folder, loader)
    if is_modular(folder):
        return ModularProgram(*modular_pipeline(folder, (), loader), name, digest, device)
    pipeline = _pipeline(folder, (), loader)
    reason = why_not(folder) or (_SEVERAL if inner_pipelines(pipeline) else None)
    return ClassicProgram(pipeline, name, digest, device, reason)


def _load(
    folder: Folder,
    roles: Collection[Role],
    dtype: DType,
    device: torch.device,
    speed: Speed | None,
    world: "World | None",
) -> ClassicProgram | ModularProgram:
    check_kinds(folder)
    speed = (speed or Speed(dtype)) if DENOISES & set(roles) else None
    loader = Loader(
        folder,
        dtype,
        device,
        speed.quantize if speed else None,
        _shares(speed, device, world),
    )
    _check_file(folder, loader)
    make = _modular if is_modular(folder) else _classic
    program = make(folder, roles, loader, speed, world)
    program.info = _told(program.info, folder)
    program.sleeper = _sleeper(folder, loader, program, speed)
    program.exchange = Exchange(program.sleeper, loader, speed)
    if world is not None and world.parallel.tiles > 1 and DECODES & set(roles):
        program.tiles = divide_tiles(_decoders(program.pipeline), world)
    return program


def _check_file(folder: Folder, loader: Loader) -> None:
    """Raises ModelError for a checkpoint with nothing of the pipeline, or without what denoises:
    that of the config's place in its stead would be another model, without a word."""
    if folder.file is None:
        return
    entries = [entry for entry in folder.components if entry.name not in folder.replaced]
    held = [entry.name for entry in entries if loader.file(entry) is not None]
    if not held:
        raise ModelError(
            f"{folder.name}: diffusers finds nothing in it of the {folder.pipeline} that "
            "--model-config names"
        )
    denoises = [entry.name for entry in entries if part_of(entry.name) == "denoiser"]
    if denoises and not set(denoises) & set(held):
        raise ModelError(
            f"{folder.name}: diffusers finds no {' or '.join(denoises)} in it, only "
            f"{', '.join(held)}; give such a file as --component, beside a --model"
        )
    log.info("in %s: %s", folder.file.name, ", ".join(held))


def _decoders(pipeline: Pipeline) -> dict[str, Any]:
    """What is given latents."""
    return {
        name: part
        for name, part in pipeline.components.items()
        if part_of(name) == "decoder"
        and isinstance(part, torch.nn.Module)
        and not isinstance(part, StandIn)
        and hasattr(part, "decode")
    }


def _shares(speed: Speed | None, device: torch.device, world: "World | None") -> Shares | None:
    if speed is None or world is None or world.parallel.tensor == 1:
        return None
    return Shares(world.parallel, world.mesh["tensor"], device, speed)


def _classic(
    folder: Folder,
    roles: Collection[Role],
    loader: Loader,
    speed: Speed | None,
    world: "World | None",
) -> ClassicProgram:
    reason = why_not(folder)
    _check_roles(folder, roles, reason)
    pipeline = _pipeline(folder, roles, loader)
    if reason is None and inner_pipelines(pipeline):
        reason = _SEVERAL
        _check_roles(folder, roles, reason)
    _prepare(pipeline, speed, loader.device, world)
    name, digest = _name(folder), fingerprint(folder)
    return ClassicProgram(pipeline, name, digest, loader.device, reason, speed)


def _modular(
    folder: Folder,
    roles: Collection[Role],
    loader: Loader,
    speed: Speed | None,
    world: "World | None",
) -> ModularProgram:
    pipeline, divided = modular_pipeline(folder, roles, loader)
    _check_roles(folder, roles, stages.why_not(divided))
    _prepare(pipeline, speed, loader.device, world)
    name, digest = _name(folder), fingerprint(folder)
    return ModularProgram(pipeline, divided, name, digest, loader.device, speed)


def _check_roles(folder: Folder, roles: Collection[Role], reason: str | None) -> None:
    """Raises Unsplittable if the roles are not the whole, and there is a reason against parts."""
    if reason is not None and "monolithic" not in roles:
        raise Unsplittable(folder.pipeline, reason)


def _sleeper(
    folder: Folder,
    loader: Loader,
    program: ClassicProgram | ModularProgram,
    speed: Speed | None,
) -> Sleeper:
    """Of the modules that are real here, each with how to read it again."""
    parts = {
        entry.name: Part.of(module, partial(loader.real, entry), loader.files(entry))
        for entry in folder.components
        if isinstance(module := program.pipeline.components.get(entry.name), torch.nn.Module)
        and not isinstance(module, StandIn)
    }
    return Sleeper(parts, loader.device, program.adapters, speed)


def _prepare(
    pipeline: Pipeline, speed: Speed | None, device: torch.device, world: "World | None"
) -> None:
    """The switches of a transformer that has been loaded; without `speed` there is none. Raises
    ModelError."""
    if speed is None:
        return
    parts = {
        name: part
        for name, part in pipeline.components.items()
        if part_of(name) == "denoiser" and isinstance(part, torch.nn.Module)
    }
    if speed.attention is not None:
        set_backend(parts, speed.attention)
    if speed.compile:
        compile_blocks(parts, device)
    if world is not None and world.parallel.tokens > 1:
        divide_tokens(parts, speed, world)


def why_not(folder: Folder) -> str | None:
    """Why a model cannot be split; None if it can."""
    kind = pipeline_class(folder)  # first: some bring classes of components along
    parts = {
        part_of(entry.name) for entry in folder.components if is_module(component_class(entry))
    }
    if kind._load_connected_pipes:
        return _SEVERAL
    if "denoiser" not in parts:
        return "it has no transformer or UNet"
    if "decoder" not in parts:
        return "it has no decoder such as a VAE"
    if "encoder" not in parts:
        return "it has no text or image encoder"
    return None


def pipeline_class(folder: Folder) -> type[DiffusionPipeline]:
    found = getattr(diffusers, folder.pipeline, None)
    if not (isinstance(found, type) and issubclass(found, DiffusionPipeline)):
        raise ModelError(
            f"{folder.name} is a {folder.pipeline}, which diffusers {diffusers.__version__} "
            "does not have"
        )
    return found


def _pipeline(folder: Folder, roles: Collection[Role], loader: Loader) -> Pipeline:
    kind = pipeline_class(folder)
    real = _real_parts(kind, roles)
    parts: dict[str, Any] = dict(folder.settings)
    known, settings = kind._get_signature_keys(kind)
    for entry in folder.components:
        if entry.name in settings:  # diffusers neither saves nor loads it: the class makes its own
            continue
        make = loader.real if part_of(entry.name) in real else loader.stand_in
        parts[entry.name] = make(entry)
    optional = {name: None for name in kind._optional_components if name in known}
    named = {name: part for name, part in parts.items() if name in (*known, *settings)}
    try:
        pipeline: Pipeline = kind(**optional | named)
    except Exception as error:
        raise ModelError(
            f"{folder.name}: {kind.__name__} cannot be made: {brief(error)}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _real_parts(kind: type[DiffusionPipeline], roles: Collection[Role]) -> set[str]:
    if "monolithic" in roles:
        return {"encoder", "denoiser", "decoder"}
    real: set[str] = set(roles)
    seen = media_arguments(kind.__call__) or structures(kind.__call__)
    if "encoder" in roles and seen:
        real.add("decoder")  # the VAE encodes the pictures, films and sounds of a request
    return real


def _told(info: ModelInfo, folder: Folder) -> ModelInfo:
    """And where it comes from."""
    replaced = [
        Replaced(name, each.told, of_component(each)) for name, each in folder.replaced.items()
    ]
    hub = folder.hub if folder.file is None else folder.file.hub
    return replace(info, revision=hub.commit if hub else None, replaced=replaced)


def _name(folder: Folder) -> str:
    if folder.file is not None:
        return folder.file.model_name
    return folder.name if folder.hub else folder.path.resolve().name


def _quiet() -> None:
    """Progress bars of loading are for notebooks; a rank's log has its own lines."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
