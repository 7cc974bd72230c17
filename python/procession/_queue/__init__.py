"""Queues: names of `queues` for code that was written for multiprocessing."""
