"""Additions to pickle: objects by value, objects without a copy, and explanations of errors."""
