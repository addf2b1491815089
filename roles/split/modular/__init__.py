"""Modular pipelines: their declared blocks, a stage for each role."""
