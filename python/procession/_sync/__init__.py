"""Objects at which processes wait: the parts of `synchronize` and `sharedctypes`."""
