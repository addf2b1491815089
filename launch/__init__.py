"""The command line, local clusters, and the demo model."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launch.cluster import Cluster, ClusterError

__all__ = ["Cluster", "ClusterError"]


def __getattr__(name: str) -> Any:
    # Imported when first asked for: `triptych --help` shall not wait for an HTTP client.
    if name in __all__:
        from launch import cluster

        return getattr(cluster, name)
    raise AttributeError(f"module 'launch' has no attribute {name!r}")
