"""What several families' tiny pipelines are made of."""
