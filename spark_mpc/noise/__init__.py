"""Noise that a protocol draws: nobody knows it, and there is one sample a cell, as with one curator."""

__all__: list[str] = []
