"""Faults planted on purpose: each removes one defence, and the tests that are named beside it must notice.

`python -m tests.mutants` runs them all.
"""
