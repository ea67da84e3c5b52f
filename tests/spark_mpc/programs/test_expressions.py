"""What a program writes down: what it may do, what is refused where it stands, and that three parties carry it out."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dp.errors import InvalidArgument
from spark_mpc.programs.changes import Change
from spark_mpc.programs.expressions import SecretInts, evaluated, secret_input, select, to_json
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.plain import Plain
from spark_mpc.shared.choice import clip
from spark_mpc.shared.ints import SharedInts, shared_ints
from tests.tools.three import three_parties

VALUES = {"x": np.array([3, -1, 0, 7]), "y": np.array([2, 5, 0, -7])}
BOUND = 10


def made() -> tuple[SecretInts, SecretInts]:
    x, y = (secret_input(name, name, 4, BOUND, Change(1, 1, 1)) for name in ("x", "y"))
    return x, y


PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "dot": lambda x, y: x.dot(y),
    "polynomial": lambda x, y: 2 * x * x - y + 1 - (3 - x),
    "matrix": lambda x, y: x.reshape(2, 2) @ y.reshape(2, 2),
    "sums": lambda x, y: (x * np.array([1, 2, 3, 4])).reshape(2, 2).sum(axis=1),
    "alike": lambda x, y: ((x < y) == (y < 3)).to_ints() + ((x < y) != (x == y)).to_ints(),
    "choices": lambda x, y: (x < y).to_ints() + ((x >= y) | ~(x == 0) & (y != 0)).to_ints(),
}


def in_the_clear(name: str, x: Any, y: Any) -> Any:
    """The same by numpy."""
    if name == "dot":
        return np.array([x @ y])
    if name == "alike":
        return ((x < y) == (y < 3)).astype(int) + ((x < y) != (x == y)).astype(int)
    if name == "choices":
        return (x < y).astype(int) + ((x >= y) | ~(x == 0) & (y != 0)).astype(int)
    return PROGRAMS[name](x, y)


@pytest.mark.parametrize("name", PROGRAMS)
def test_three_parties_carry_out_what_was_written(name: str) -> None:
    result = PROGRAMS[name](*made())

    def party(engine: Engine) -> Any:
        inputs = {
            each: shared_ints(engine, owner=i, values=values if engine.me == i else None, length=4, bound=BOUND)
            for i, (each, values) in enumerate(VALUES.items())
        }
        carried_out = evaluated(result, inputs)
        assert isinstance(carried_out, SharedInts)
        return carried_out.open()

    opened, _ = three_parties(party)
    for one in opened:
        np.testing.assert_array_equal(one, in_the_clear(name, *VALUES.values()))


def test_choices_and_clipping_at_three_parties() -> None:
    x, y = made()
    result = select(x < y, x, y).clipped(-2, 1)

    def party(engine: Engine) -> Any:
        inputs = {
            each: shared_ints(engine, owner=i, values=values if engine.me == i else None, length=4, bound=BOUND)
            for i, (each, values) in enumerate(VALUES.items())
        }
        return evaluated(result, inputs).open()  # type: ignore[union-attr]

    opened, _ = three_parties(party)
    np.testing.assert_array_equal(opened[0], np.clip(np.minimum(*VALUES.values()), -2, 1))
    assert result.bound == 2


def test_clipping_sends_what_it_says() -> None:
    twin, cells = Plain(), 1 << 16
    clip(SharedInts(twin, twin.constant(np.zeros(cells, np.uint64)), 100), -5, 5)
    assert twin.spent.rounds == 22
    assert twin.spent.payload_bytes / 3 / cells == pytest.approx(88, abs=0.5)


def test_equal_programs_are_equal_text_and_unused_steps_are_left_out() -> None:
    def first(x: SecretInts, y: SecretInts) -> SecretInts:
        _ = x * y  # never used
        return (x + y).sum()

    def second(x: SecretInts, y: SecretInts) -> SecretInts:
        return (x + y).sum()

    assert to_json(first(*made())) == to_json(second(*made()))
    assert to_json(second(*made())) == [
        ["input", [], ["x"]],
        ["input", [], ["y"]],
        ["add", [0, 1], []],
        ["sum", [2], [None]],
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x, y: x - y, lambda x, y: y - x),
        (lambda x, y: x * 3, lambda x, y: x * -3),
        (lambda x, y: x[0:2], lambda x, y: x[2:4]),
        (lambda x, y: x.clipped(0, 1), lambda x, y: x.clipped(0, 2)),
        (lambda x, y: (x < y).to_ints(), lambda x, y: (x > y).to_ints()),
        (lambda x, y: x + np.array([1, 2, 3, 4]), lambda x, y: x + np.array([1, 2, 3, 5])),
    ],
)
def test_programs_that_differ_are_other_text(one: Callable[..., Any], other: Callable[..., Any]) -> None:
    assert to_json(one(*made())) != to_json(other(*made()))


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (lambda x, y: x * 2**62, "wrap"),
        (lambda x, y: x + y[0:2], "same shape"),
        (lambda x, y: x @ y, "matrix"),
        (lambda x, y: x + 0.5, "public integers"),
        (lambda x, y: x + True, "public integers"),
        (lambda x, y: x + np.array([1.0]), "public integers"),
        (lambda x, y: x + np.array([2**63], np.uint64), "below 2\\^63"),
        (lambda x, y: x[0], "slice"),
        (lambda x, y: x.clipped(3, 1), "lower <= upper"),
        (lambda x, y: select(x < y, x, 0), "secret integers to choose from"),
        (lambda x, y: (x < y) & 1, "truth values"),
        (lambda x, y: x.sum(5), "do not fit"),
        (lambda x, y: x.sum((0, 1)), "do not fit"),
        (lambda x, y: x.reshape(), "do not fit"),
        (lambda x, y: x.reshape(3, 3), "do not fit"),
        (lambda x, y: x.dot(np.arange(4)), "do not fit"),
        (lambda x, y: x.reshape(1, 4) @ y, "matrix"),
        (lambda x, y: x.reshape(1, 4) @ y.reshape(4, 1, 1), "matrix"),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(program: Callable[..., Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        program(*made())


@pytest.mark.parametrize(
    "use",
    [bool, int, float, list, iter, hash, pickle.dumps, np.asarray, lambda x: x.open(), lambda x: 1 if x < 3 else 2],
)
def test_secrets_of_a_program_have_no_value(use: Callable[[Any], Any]) -> None:
    x, _ = made()
    with pytest.raises((TypeError, AttributeError)):
        use(x)


def test_its_text_tells_the_shape_alone() -> None:
    x, y = made()
    assert repr(x * y) == "SecretInts(shape=(4,))"
    assert repr(x < y) == "SecretBits(shape=(4,))"


def test_a_long_program_needs_no_deep_stack() -> None:
    x, y = made()
    for _ in range(3000):
        x = (x + y).clipped(-BOUND, BOUND) if _ % 1000 == 0 else x.clipped(-BOUND, BOUND) if _ % 1000 == 1 else -x
    assert len(to_json(x)) > 2900
