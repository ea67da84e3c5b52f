"""Replicated sharing among three parties, of which one may be corrupt: x = x0 + x1 + x2; party i holds x_i, x_i+1."""
