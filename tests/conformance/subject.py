"""A case in one process: its tiny pipeline, built and saved once, and what was loaded of it."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from roles.samples import Sample
from roles.split.denoising.slicing import samples
from roles.split.loading import load
from roles.split.program import Call, Denoising, Program, Unsplittable
from roles.split.request.given import MediaArgument, media_arguments
from roles.split.request.structures import Structured, structures
from tests.conformance import modular, plain
from tests.conformance.case import Case
from tests.support.splitting import Arrays
from transfer.messages import Inputs, Lora
from transfer.payload import pack, unpack

ROLES = ("encoder", "denoiser", "decoder")
SEED = 11


@dataclass
class Passage:
    """A request that went through its roles, over the wire, each forward alone.

    `unsplittable`: why it went through a single one; then `result` is the samples, and nothing
    crossed. Otherwise `records` and `result` are what left the encoder and the denoiser, and
    `sizes` their payloads' bytes. `branches`, `batch`: the most calls that waited together, and the
    most samples in one of them.
    """

    result: Any
    samples: list[Sample]
    unsplittable: str = ""
    records: Any = None
    sizes: tuple[int, int] = (0, 0)
    branches: int = 1
    batch: int = 1


@dataclass
class Subject:
    """What the checks look at. Everything is loaded when it is first asked for, and kept."""

    case: Case
    folder: Path
    kind: Any = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        pipeline = self.case.build()
        self.kind = type(pipeline)
        if self.kind.__name__ != self.case.pipeline:
            raise TypeError(f"the case of {self.case.pipeline} builds a {self.kind.__name__}")
        modular.save(pipeline, self.folder)
        self._programs: dict[tuple[Any, str], Program] = {}
        self.plain: Callable[[str], Arrays] = cache(self._plain)
        self._passages: dict[str, Passage | Exception] = {}

    def program(self, role: Any, dtype: str = "float32") -> Program:
        if (role, dtype) not in self._programs:
            self._programs[role, dtype] = self.fresh(role, dtype)
        return self._programs[role, dtype]

    def fresh(self, role: Any, dtype: Any = "float32") -> Program:
        """Loaded anew, as in another process."""
        return load(self.folder, (role,), dtype)

    def call(
        self, seed: int = SEED, exact: bool = False, loras: Sequence[Lora] = (), **changed: Any
    ) -> Call:
        """A request: media apart from plain values. `changed`: arguments with other values."""
        return call_of(self.kind, {**self.case.arguments(), **changed}, seed, exact, loras)

    def through(self, call: Call, dtype: str = "float32", whole: bool = False) -> Passage:
        """Through three roles, or one that has all. Raises what they raise, `Unsplittable` too."""
        seen = Passage(None, [])
        if whole:
            program = self.program("monolithic", dtype)
            seen.result = seen.samples = _driven(program.generate(call), seen)
            return seen
        encoder, denoiser, decoder = (self.program(role, dtype) for role in ROLES)
        seen.records, to_denoiser = crossed(encoder.encode(call))
        seen.result = _driven(denoiser.denoise(call, seen.records), seen)
        received, to_decoder = crossed(seen.result)
        seen.samples = decoder.decode(call, received)
        seen.sizes = to_denoiser, to_decoder
        return seen

    def asked(self, program: Program, call: Call) -> Denoising:
        """The request's own loop, not yet started, in a denoiser or in a monolithic one."""
        if self.passage().unsplittable:
            return program.generate(call)
        return program.denoise(call, crossed(self.program("encoder").encode(call))[0])

    @property
    def looping(self) -> str:
        """The role whose loop it is."""
        return "monolithic" if self.passage().unsplittable else "denoiser"

    def _plain(self, dtype: str) -> Arrays:
        if modular.is_modular(self.kind):
            made = modular.plain(self.folder, self.case.arguments(), dtype, SEED)
            return plain.arrays(made)
        pipeline = plain.load(self.kind, self.folder, dtype)
        return plain.made_by(pipeline, self.case.arguments(), SEED)

    def passage(self, dtype: str = "float32") -> Passage:
        """The case's own request, through its roles. Raises what they raise, each time."""
        if dtype not in self._passages:
            try:
                self._passages[dtype] = self._passage(dtype)
            except Exception as error:
                self._passages[dtype] = error
        found = self._passages[dtype]
        if isinstance(found, Exception):
            raise found
        return found

    def _passage(self, dtype: str) -> Passage:
        try:
            return self.through(self.call(), dtype)
        except Unsplittable as error:
            whole = self.through(self.call(), dtype, whole=True)
            whole.unsplittable = error.reason
            return whole


def call_of(
    kind: Any,
    arguments: Mapping[str, Any],
    seed: int = SEED,
    exact: bool = False,
    loras: Sequence[Lora] = (),
) -> Call:
    """The request for what the plain pipeline does when it is called with these."""
    called = modular.call_signature(kind) if modular.is_modular(kind) else kind.__call__
    known, objects = media_arguments(called), structures(called)
    media = {n: _several(known[n], value) for n, value in arguments.items() if n in known}
    params = {n: v for n, v in arguments.items() if n not in known and n not in objects}
    for name, one in objects.items():
        for part, place, value in _parts(one, arguments.get(name)):
            if part in one.media:
                media[place] = [value]
            else:
                params[place] = value
    inputs = Inputs(params=params, seed=seed, exact=exact, loras=list(loras))
    return Call(f"r{seed}", inputs, media)


def _parts(one: Structured, value: Any) -> Iterator[tuple[str, str, Any]]:
    """The fields of its objects, and under which names a request has them."""
    for number, each in enumerate(value if isinstance(value, list) else [value]):
        at = f"{one.name}.{number}" if one.several else one.name
        for part in dataclasses.fields(each) if each is not None else ():
            if (given := getattr(each, part.name)) is not None:
                yield part.name, f"{at}.{part.name}", given


def crossed(value: Any) -> tuple[Any, int]:
    """The value after it has been packed, written, and read elsewhere; and the payload's bytes."""
    packed = pack(value)
    memory = memoryview(bytearray(packed.nbytes))
    checksum = packed.write([memory])
    return unpack([memory], packed.nbytes, checksum), packed.nbytes


def _several(argument: MediaArgument, value: Any) -> list[Any]:
    return list(value) if argument.kind == "picture" and isinstance(value, list) else [value]


def _driven(denoising: Denoising, seen: Passage) -> Any:
    """Runs a loop to its end, each forward alone."""
    denoising.start()
    while not denoising.done:
        pending = denoising.pending
        seen.branches = max(seen.branches, len(pending))
        seen.batch = max(seen.batch, *map(samples, pending))
        denoising.resume([call.run() for call in pending])
    return denoising.result()
