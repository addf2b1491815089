"""Which safetensors files of a component are the ones that are read. Imports no torch.

A folder may hold the same weights several times: `model.safetensors`, and variants of it such as
`model.fp16.safetensors` or, in several files, `model.fp16-00001-of-00002.safetensors`. A plain
`from_pretrained` reads those without a variant's name; with `variant=`, those of the variant, where
a component has some.
"""

import re
from collections.abc import Iterable

_PIECE = re.compile(r"-\d{5}-of-\d{5}")


def variant_of(name: str) -> str | None:
    """The variant that a safetensors file belongs to; None: to none."""
    stem = _PIECE.sub("", name.removesuffix(".safetensors"))
    _, dot, variant = stem.partition(".")
    return variant if dot else None


def chosen(names: Iterable[str], variant: str | None) -> tuple[str | None, list[str]]:
    """Those of a component's files that are read when this `variant` is asked for, and the variant
    that they are of."""
    weights = sorted(name for name in names if name.endswith(".safetensors"))
    for kind in (variant, None):
        found = [name for name in weights if variant_of(name) == kind]
        if found:
            return kind, found
    return None, []


def variants(names: Iterable[str]) -> list[str]:
    """All variants that some of these files belong to."""
    found = {variant_of(name) for name in names if name.endswith(".safetensors")}
    return sorted(variant for variant in found if variant)
