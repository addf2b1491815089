"""Finished files on their way to clients."""
