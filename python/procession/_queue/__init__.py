"""Queues: what `queues` has for code that was written for multiprocessing."""
