"""Writes docs/complexity.md: what every operation sends, added up from the declarations by the plaintext twin.

    python -m tests.tools.complexity        # overwrites the page; a test compares it

Nothing here is measured: that operations send what they declare is what the conformance suite shows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from spark_mpc.circuits import compaction, division, exponential, extrema, fixed_point, roots, scans, selection, sorting
from spark_mpc.circuits.fixed_point import FixedPoint
from spark_mpc.circuits.keys import Key
from spark_mpc.protocols.plain import Plain
from spark_mpc.protocols.shares import Arithmetic, Binary

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "complexity.md"

ELEMENTS = 1 << 16
FORM = FixedPoint(fraction_bits=20, magnitude_bits=20)
_RNG = np.random.default_rng(1)
WORDS = _RNG.integers(0, 2**20, ELEMENTS, dtype=np.uint64)
KEYS = _RNG.permutation(ELEMENTS).astype(np.uint64)

X = Arithmetic((WORDS,))
Y = Arithmetic((WORDS[::-1].copy(),))
POSITIVE = Arithmetic((WORDS + np.uint64(1 << 20),))
B = Binary((WORDS,))

Program = Callable[[Plain], object]

PRIMITIVES: dict[str, Program] = {
    "input of one party": lambda e: e.input_words(0, WORDS, ELEMENTS),
    "open to all": lambda e: e.open_words(X),
    "add; times public": lambda e: X + Y,
    "multiply": lambda e: e.multiply(X, Y),
    "and of words": lambda e: e.and_words(B, B),
    "a < 0; a < b": lambda e: e.negative(X),
    "a = 0; a = b": lambda e: e.zero(X),
    "bit to number, 64 bit": lambda e: e.bits_to_arithmetic(e.constant_bits(WORDS & np.uint64(1))),
    "bit to number, 32 bit": lambda e: e.bits_to_arithmetic(e.constant_bits(WORDS & np.uint64(1)), np.uint32),
    "number to binary": lambda e: e.to_binary(X),
    "truncate by 20 bits, rounding at random": lambda e: e.truncated(X, 20),
    "truncate by 20 bits, exactly": lambda e: e.truncated_exactly(X, 20),
    "shuffle, one column": lambda e: e.shuffled([X]),
}

CIRCUITS: dict[str, Program] = {
    "select": lambda e: selection.select(e, e.constant_bits(WORDS & np.uint64(1)), X, Y),
    "select words": lambda e: selection.select_binary(e, e.constant_bits(WORDS & np.uint64(1)), B, B),
    "minimum of two": lambda e: extrema.minimum(e, X, Y),
    "minimum of a column": lambda e: extrema.column_min(e, X),
    "fixed-point multiply": lambda e: fixed_point.multiply(e, X, Y, FORM),
    "reciprocal": lambda e: division.reciprocal(e, POSITIVE, FORM),
    "divide": lambda e: division.divide(e, X, POSITIVE, FORM),
    "square root": lambda e: roots.square_root(e, POSITIVE, FORM),
    "inverse square root": lambda e: roots.inverse_square_root(e, POSITIVE, FORM),
    "exponential": lambda e: exponential.exponential(e, X, FORM),
    "logarithm": lambda e: exponential.logarithm(e, POSITIVE, FORM),
    "sigmoid": lambda e: exponential.sigmoid(e, X, FORM),
    "segmented sum": lambda e: scans.segmented_sum(e, scans.one_segment(e, ELEMENTS), [X]),
    "segmented minimum": lambda e: scans.segmented_min(e, scans.one_segment(e, ELEMENTS), [X]),
    "compact, order kept": lambda e: compaction.compacted(e, e.constant_bits(WORDS & np.uint64(1)), [X]),
    "sort by 16 bits": lambda e: sorting.sort(e, [Key(Arithmetic((KEYS,)), 16)]),
    "sort by 40 bits (expected)": lambda e: sorting.sort(e, [Key(Arithmetic((KEYS,)), 40)]),
}


def _line(name: str, program: Program) -> str:
    twin = Plain()
    program(twin)
    average = twin.spent.payload_bytes / 3 / ELEMENTS
    largest = max(twin.spent.sent_bytes) / ELEMENTS
    return f"| {name} | {twin.spent.rounds} | {average:.1f} | {largest:.1f} |"


def page() -> str:
    """The page as it should stand."""
    head = "| Operation | Rounds | Bytes, average party | Bytes, busiest party |\n|---|---|---|---|\n"
    sections = [
        f"## {title}\n\n{head}" + "\n".join(map(_line, programs, programs.values())) for title, programs in _ALL
    ]
    return _INTRODUCTION + "\n\n".join(sections) + "\n"


_ALL = (("Operations of the engine", PRIMITIVES), ("Circuits", CIRCUITS))

_INTRODUCTION = f"""# What operations send

Under `rep3`, sent by one party for each element, {ELEMENTS:,} elements of 64 bits at once; payload, without framing and
TLS. Rounds are messages that wait for one another. More than 131,072 elements go through an operation of several rounds
in chunks, each of which takes its rounds. Rounds are added up as if every operation and chunk waited for all messages
of the one before; where they overlap (several chunks or operations under way) fewer may be taken, so that they are an
upper bound, which one operation of the engine on one chunk meets.

This page is generated from the declared costs: `python -m tests.tools.complexity`. Operations are held to them by the
conformance suite, which compares what is sent with what is declared. Fixed point here has 20 bits on either side of the
point.

"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(page())
