"""Replicated sharing among three parties, one of which may be corrupt: x = x0 + x1 + x2, and party i holds x_i, x_i+1."""
