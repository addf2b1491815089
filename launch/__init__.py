"""The command line, local clusters, and the demo model."""
