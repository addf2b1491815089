"""From flags to where a model comes from, and back."""

from typing import Any

from roles.origins import Origins


def origins_of(flags: dict[str, Any]) -> Origins:
    """Raises `LaunchError`."""
    return Origins(variant=flags["variant"])


def as_flags(origins: Origins) -> dict[str, Any]:
    """For the command line of another process."""
    return {"variant": origins.variant}
