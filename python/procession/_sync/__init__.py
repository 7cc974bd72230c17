"""Objects that processes wait at: what `synchronize` and `sharedctypes` are made of."""
