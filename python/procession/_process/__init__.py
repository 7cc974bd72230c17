"""Processes: what `process` and `util` are made of."""
