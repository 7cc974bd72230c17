"""Processes: the parts of `process` and `util`."""
