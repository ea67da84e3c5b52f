"""Benchmarks: `python -m benchmarks NAME [--quick]` prints one JSON object a line.

A benchmark is a module of this package with `run(quick: bool) -> Iterator[dict[str, object]]`; the command finds it
by its file's name. Modules whose name begins with an underscore are tools.
"""
