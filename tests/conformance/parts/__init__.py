"""What the tiny pipelines of several families are made of."""
