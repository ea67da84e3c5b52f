"""Protocols over raw arrays: every operation with its declared rounds and bytes, its guarantees and what it leaks."""
