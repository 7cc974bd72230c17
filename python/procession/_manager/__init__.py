"""Managers: the server, its clients, and their protocol."""
