"""Connections and listeners: the parts of `connection`."""
