"""Parts that the tiny pipelines of several modules in `families` share."""
