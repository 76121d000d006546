"""Backends: who holds the secrets. `base` is the seam, `software` the plain implementation."""
