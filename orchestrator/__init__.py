"""The one process that decides: a pure core, and the loops around it."""
