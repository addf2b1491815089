"""The processes around the orchestrator in `benchmarks.control_plane`: callers, roles that compute
nothing, and a way in without HTTP. Each prints one JSON line when it is ready."""
