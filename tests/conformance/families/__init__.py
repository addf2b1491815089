"""The cases, one module for each family of models; each has a list `CASES`."""
