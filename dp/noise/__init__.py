"""Randomness that protects: exact samplers, mechanisms made of them, and how far the result may lie from the truth."""
