"""A small text-to-image model of coloured shapes, trained from nothing, for demos and tests."""
