"""Stands in for the main module of `python -m pytest`, which children import as well: it does nothing."""
