"""Protocols over raw arrays: each operation with its declared rounds and bytes, what it guarantees and what it leaks."""
