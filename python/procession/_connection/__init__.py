"""Connections and listeners: what `connection` is made of."""
