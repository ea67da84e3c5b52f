"""Oblivious algorithms on secret columns, written against the face of an engine: one program for all protocols."""
