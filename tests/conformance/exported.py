"""All pipeline classes that the installed diffusers exports."""

from dataclasses import dataclass, field
from importlib.util import find_spec

import diffusers
from diffusers import DiffusionPipeline, ModularPipeline

BASES = {"DiffusionPipeline", "ModularPipeline"}


@dataclass
class Exported:
    """`classic` and `modular`: names of classes. `unavailable`: of those that need a package that
    is not installed, with the packages that they need."""

    classic: list[str] = field(default_factory=list)
    modular: list[str] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)


def exported() -> Exported:
    """Imports every pipeline that there is: some seconds."""
    found = Exported()
    for name in sorted(dir(diffusers)):
        kind = getattr(diffusers, name) if "Pipeline" in name and name not in BASES else None
        if not isinstance(kind, type) or kind.__name__ != name:  # another name of a class
            continue
        if issubclass(kind, DiffusionPipeline):
            found.classic.append(name)
        elif issubclass(kind, ModularPipeline):
            found.modular.append(name)
        elif needs := getattr(kind, "_backends", None):
            found.unavailable[name] = ", ".join(each for each in needs if not find_spec(each))
    return found
