"""Pools: the parts of `pool` and `futures`."""
