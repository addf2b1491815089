"""From flags to where a model comes from, and back."""

from collections.abc import Iterable
from typing import Any

from launch.errors import LaunchError
from launch.model import pinned
from roles.origins import Origins
from roles.split.files.source import Source


def origins_of(flags: dict[str, Any]) -> Origins:
    """With the commits of what a hub has, and paths that hold in any working directory. Raises
    `LaunchError`."""
    return Origins(
        variant=flags["variant"],
        components=_components(flags["component"]),
        config=flags["model_config"] and _place("model-config", flags["model_config"]),
    )


def as_flags(origins: Origins) -> dict[str, Any]:
    """For the command line of another process."""
    components = [f"{name}={source}" for name, source in origins.components.items()]
    return {
        "variant": origins.variant,
        "component": components,
        "model_config": origins.config,
    }


def _components(words: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name in found:
            raise LaunchError(f"--component {name} is given twice")
        found[name] = _place(f"component {name}", text)
    return found


def _place(flag: str, text: str) -> str:
    try:
        return pinned(str(Source.parse(text).absolute))
    except (ValueError, LaunchError) as error:
        raise LaunchError(f"--{flag}: {error}") from error
