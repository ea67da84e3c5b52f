"""What a program's sensitivity promises: no unit moves the result further, whatever program, values and change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spark_mpc.programs import changes, expressions
from spark_mpc.programs.changes import UNCHANGED, Change, Size, together
from spark_mpc.programs.expressions import SecretBits, SecretInts, evaluated, secret_input, select
from spark_mpc.protocols.plain import Plain
from spark_mpc.shared.ints import SharedInts, shared_ints

Ints = NDArray[np.int64]

CELLS, BOUND = 4, 9
OWNERS = ("a", "b", "a")  # of the inputs: one party has two
NAMES = ("x", "y", "z")


@dataclass(frozen=True)
class Neighbours:
    """Inputs, and the same after one unit came or went at some parties.

    Attributes:
        before: by input.
        after: by input; equal where the owner is none of `parties`.
        parties: where the unit has rows.
    """

    before: dict[str, Ints]
    after: dict[str, Ints]
    parties: frozenset[str]


def difference(before: Ints, after: Ints) -> Change:
    """The three norms, measured."""
    apart = np.abs(before.astype(object) - after.astype(object)).ravel()
    return Change(int(np.count_nonzero(apart)), int(max(apart, default=0)), int(sum(apart)))


@st.composite
def neighbours(draw: st.DrawFn) -> Neighbours:
    values = st.lists(st.integers(-BOUND, BOUND), min_size=CELLS, max_size=CELLS)
    before = {name: np.array(draw(values)) for name in NAMES}
    parties = draw(st.sets(st.sampled_from(OWNERS), min_size=1))
    after = {
        name: np.array(draw(values)) if owner in parties else before[name]
        for name, owner in zip(NAMES, OWNERS, strict=True)
    }
    return Neighbours(before, after, frozenset(parties))


ELEMENTWISE: dict[str, Callable[[SecretInts, SecretInts, SecretInts], SecretInts]] = {
    "add": lambda x, y, z: x + y,
    "subtract": lambda x, y, z: x - y,
    "negative": lambda x, y, z: -x,
    "times public": lambda x, y, z: 3 * x - np.array([1, -2, 3, 0]),
    "times": lambda x, y, z: x * y,
    "square": lambda x, y, z: x * x,
    "clip": lambda x, y, z: x.clipped(-2, 3),
    "reversed": lambda x, y, z: x[::-1],
    "select": lambda x, y, z: select(x < y, z, x),
    "select public": lambda x, y, z: select(x > 0, y * 2, z),
    "less": lambda x, y, z: (x <= y).to_ints(),
    "equal": lambda x, y, z: (x == y).to_ints(),
    "logic": lambda x, y, z: ((x < y) & ~(y < z) | (x != 3) ^ (z >= 0)).to_ints(),
}
RESULTS: dict[str, Callable[[SecretInts, SecretInts, SecretInts], SecretInts]] = {
    "as it is": lambda x, y, z: x,
    "dot": lambda x, y, z: x.dot(y),
    "sum": lambda x, y, z: x.sum(),
    "sum of products": lambda x, y, z: (x * y).sum(),
    "matrix product": lambda x, y, z: x.reshape(2, 2) @ y.reshape(2, 2),
    "column sums": lambda x, y, z: x.reshape(2, 2).sum(axis=0),
    "part": lambda x, y, z: x[1:3],
}

Program = Callable[[SecretInts, SecretInts, SecretInts], SecretInts]


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A few elementwise steps, each on any results so far, and a last one."""
    steps = draw(st.lists(st.sampled_from(sorted(ELEMENTWISE)), max_size=3))
    last = draw(st.sampled_from(sorted(RESULTS)))
    picks = [[draw(st.integers(0, 2 + i)) for _ in range(3)] for i in range(len(steps) + 1)]

    def program(x: SecretInts, y: SecretInts, z: SecretInts) -> SecretInts:
        held = [x, y, z]
        for step, pick in zip(steps, picks, strict=False):
            held.append(ELEMENTWISE[step](*(held[i] for i in pick)))
        return RESULTS[last](*(held[i] for i in picks[-1]))

    return program


def written(program: Program, moved: dict[str, Change]) -> SecretInts:
    """A program on inputs of which a unit moves each as `moved` says, at its owner."""
    inputs = [secret_input(name, owner, CELLS, BOUND, moved[name]) for name, owner in zip(NAMES, OWNERS, strict=True)]
    return program(*inputs)


def run(result: SecretInts, values: dict[str, Ints]) -> Ints:
    """The same in the clear."""
    twin = Plain()
    inputs = {name: shared_ints(twin, owner=0, values=values[name], length=CELLS, bound=BOUND) for name in values}
    opened = evaluated(result, inputs)
    assert isinstance(opened, SharedInts)
    words = opened.open()
    assert words is not None
    return words


def excess(program: Program, pair: Neighbours) -> list[str]:
    """Where the difference is greater than was promised: by party in every norm, and in all."""
    moved = {name: difference(pair.before[name], pair.after[name]) for name in NAMES}
    result = written(program, moved)
    seen = difference(run(result, pair.before), run(result, pair.after))
    found = []
    if len(pair.parties) == 1:
        (party,) = pair.parties
        promised = result.changes.get(party, UNCHANGED)
        found = [
            f"{norm}: {getattr(seen, norm)} > {getattr(promised, norm)}"
            for norm in ("cells", "most", "total")
            if getattr(seen, norm) > getattr(promised, norm)
        ]
    if seen.total > together(list(result.changes.values()), len(pair.parties)):
        found.append(f"together: {seen.total}")
    return found


@settings(max_examples=1500, deadline=None)
@given(program=programs(), pair=neighbours())
def test_no_unit_moves_a_result_further_than_promised(program: Program, pair: Neighbours) -> None:
    assert excess(program, pair) == []


@settings(max_examples=200, deadline=None)
@given(program=programs(), pair=neighbours())
def test_no_value_exceeds_its_bound(program: Program, pair: Neighbours) -> None:
    result = written(program, dict.fromkeys(NAMES, Change(CELLS, 2 * BOUND, CELLS * 2 * BOUND)))
    assert int(np.abs(run(result, pair.before)).max(initial=0)) <= result.bound


PLANTED: dict[str, Callable[..., Change]] = {
    "multiply": lambda x, y: x[0] + y[0],
    "dot": lambda x, y: changes.product(*x, *y),
    "matmul": lambda x, y: changes.product(*x, *y),
    "sum": lambda x: replace(x[0], total=x[0].most),
    "less": lambda x, y: changes.compared(x[0], UNCHANGED),
    "select": lambda condition, x, y: x[0] + y[0],
}


@pytest.mark.parametrize("operation", PLANTED)
def test_a_rule_that_forgets_something_is_found(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = expressions._OPERATIONS[operation]
    monkeypatch.setitem(expressions._OPERATIONS, operation, replace(rule, change=PLANTED[operation]))  # type: ignore[arg-type]
    rng = np.random.default_rng(5)
    uses: list[Program] = [
        lambda x, y, z: x * y,
        lambda x, y, z: x.dot(y),
        lambda x, y, z: x.reshape(2, 2) @ y.reshape(2, 2),
        lambda x, y, z: x.sum(),
        lambda x, y, z: (x < y).to_ints(),
        lambda x, y, z: select(x < y, z, z * 0 + 9),
    ]
    found = []
    for _ in range(200):
        before = {name: rng.integers(-BOUND, BOUND + 1, CELLS) for name in NAMES}
        after = {**before, **{name: rng.integers(-BOUND, BOUND + 1, CELLS) for name in ("x", "y", "z")}}
        one = {name: after[name] if owner == "b" else before[name] for name, owner in zip(NAMES, OWNERS, strict=True)}
        other = {name: after[name] if owner == "a" else before[name] for name, owner in zip(NAMES, OWNERS, strict=True)}
        found += [
            line
            for use in uses
            for pair in (Neighbours(before, one, frozenset("b")), Neighbours(before, other, frozenset("a")))
            for line in excess(use, pair)
        ]
    assert found


def test_units_at_several_parties_move_what_all_of_them_move() -> None:
    moved = [Change(1, 5, 5), Change(1, 2, 2), Change(2, 4, 7)]
    assert [together(moved, n) for n in (1, 2, 3, 9)] == [7, 12, 14, 14]
    assert together([], 3) == 0


def test_norms_tighten_one_another() -> None:
    size = Size((3,), 10)
    assert Change(9, 100, 1000).within(size) == Change(3, 20, 60)
    assert Change(9, 100, 2).within(size) == Change(2, 2, 2)
    assert Change(1, 3, 100).within(size) == Change(1, 3, 3)
    assert Size((), 4).cells == 1


def test_bits_are_no_integers() -> None:
    x = secret_input("x", "a", CELLS, BOUND, Change(1, 1, 1))
    assert isinstance(x < 3, SecretBits)
    assert (x < 3).changes["a"] == Change(1, 1, 1)
