"""From flags to where a model comes from, and back."""

from collections.abc import Iterable
from typing import Any

from launch.errors import LaunchError
from launch.model import pinned
from roles.origins import Origins
from roles.split.source import Source


def origins_of(flags: dict[str, Any]) -> Origins:
    """With the commits of what a hub has, and paths that hold in any working directory. Raises
    `LaunchError`."""
    return Origins(variant=flags["variant"], components=_components(flags["component"]))


def as_flags(origins: Origins) -> dict[str, Any]:
    """For the command line of another process."""
    components = [f"{name}={source}" for name, source in origins.components.items()]
    return {"variant": origins.variant, "component": components}


def _components(words: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name in found:
            raise LaunchError(f"--component {name} is given twice")
        try:
            found[name] = pinned(str(Source.parse(text).absolute))
        except (ValueError, LaunchError) as error:
            raise LaunchError(f"--component {word}: {error}") from error
    return found
