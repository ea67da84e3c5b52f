"""Reciprocals, quotients, roots, exponential, logarithm and the logistic function: as near as they say, at their price.

Inputs are dense over the logarithm of the domain, with powers of two, their neighbours and both ends of the domain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.circuits.division import divide, reciprocal
from spark_mpc.circuits.exponential import exponential, logarithm, sigmoid
from spark_mpc.circuits.fixed_point import FixedPoint
from spark_mpc.circuits.polynomials import PRECISION, evaluated, fitted
from spark_mpc.circuits.roots import _start, inverse_square_root, square_root
from spark_mpc.protocols.engine import Engine
from spark_mpc.protocols.rep3.context import CHUNK
from spark_mpc.protocols.shares import Arithmetic
from spark_mpc.ring.masks import Words
from tests.tools.conformance import Both, Operands, measured

Reals = NDArray[np.float64]

FORMS = [FixedPoint(*bits) for bits in ((16, 16), (20, 20), (24, 14), (30, 14), (14, 30), (0, 30), (8, 8), (7, 8))]
DEAREST = FixedPoint(12, 30)
"""Where reciprocals and inverse roots cost most: their last truncation cuts off more than 32 bits."""

POINTS = 2000


def magnitudes(form: FixedPoint, rng: np.random.Generator) -> NDArray[np.int64]:
    """Words from 1 to the end of the domain."""
    top = (1 << form.word_bits) - 1
    powers = 1 << np.arange(form.word_bits)
    some = np.exp2(rng.uniform(0, form.word_bits, POINTS)).astype(np.int64)
    return np.concatenate([some, powers, powers - 1, powers + 1, [top]]).clip(1, top)


def of_both_signs(form: FixedPoint, rng: np.random.Generator) -> Reals:
    values = magnitudes(form, rng) * form.unit
    return np.concatenate([values, -values])


def positive(form: FixedPoint, rng: np.random.Generator) -> Reals:
    return form.decode(magnitudes(form, rng).view(np.uint64))


def exponents(form: FixedPoint, rng: np.random.Generator) -> Reals:
    """All of the domain, and what does not vanish densely, up to the largest whose power fits."""
    most = form.magnitude_bits * np.log(2)
    near = np.linspace(-(form.fraction_bits + 3) * np.log(2), most, POINTS)
    values = np.concatenate([near, of_both_signs(form, rng), [0.0]])
    return np.asarray(values[values < min(most, 2.0**form.magnitude_bits) - form.unit])


def logistic_points(form: FixedPoint, rng: np.random.Generator) -> Reals:
    return np.concatenate([np.linspace(-25, 25, POINTS), of_both_signs(form, rng), [0.0]])


def logistic(x: Reals) -> Reals:
    return np.asarray(1 / (1 + np.exp(-x.clip(-600, 600))))


@dataclass(frozen=True)
class Case:
    """A function, its points, and what its docstring states.

    Attributes:
        circuit: of an engine, a column and its form.
        plain: the function itself.
        points: of its domain.
        relative: error by the result.
        absolute: error beside that.
        units: error in units, beside both.
        rounds: at most, for one chunk.
        payload: bytes an element and party, at most.
    """

    circuit: Callable[[Engine, Arithmetic, FixedPoint], Arithmetic]
    plain: Callable[[Reals], Reals]
    points: Callable[[FixedPoint, np.random.Generator], Reals]
    relative: float
    absolute: float
    units: float
    rounds: int
    payload: float

    def excess(self, found: Reals, expected: Reals, form: FixedPoint) -> float:
        """The largest error beyond what is stated, in units; not above zero where all is well."""
        allowed = self.relative * np.abs(expected) + self.absolute + self.units * form.unit
        return float(((np.abs(found - expected) - allowed) / form.unit).max())


CASES = {
    "reciprocal": Case(reciprocal, np.reciprocal, of_both_signs, 2.0**-26, 0, 2, 41, 387),
    "square root": Case(square_root, np.sqrt, positive, 2.0**-26, 0, 1, 50, 435),
    "inverse root": Case(inverse_square_root, lambda x: 1 / np.sqrt(x), positive, 2.0**-26, 0, 1, 46, 410),
    "exponential": Case(exponential, np.exp, exponents, 2.0**-25, 0, 1, 35, 348),
    "logarithm": Case(logarithm, np.log, positive, 0, 2.0**-24, 2, 38, 376),
    "sigmoid": Case(sigmoid, logistic, logistic_points, 0, 2.0**-25, 1, 61, 495),
}


def fitting(words: Words, case: Case, form: FixedPoint) -> Words:
    """Those points whose results lie in the domain."""
    inside: NDArray[np.bool_] = np.abs(case.plain(form.decode(words))) < 2.0**form.magnitude_bits - form.unit
    return words[inside]


def run(case: Case, words: Words, form: FixedPoint, chunk: int = CHUNK) -> Both:
    both = measured(lambda e, o: case.circuit(e, o.x_shared(e), form), Operands(words, words), chunk=chunk)
    assert both.sent_bytes == both.declared.sent_bytes
    assert both.rounds <= both.declared.rounds
    return both


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_functions_are_as_near_as_they_say(name: str, form: FixedPoint) -> None:
    case = CASES[name]
    points = case.points(form, np.random.default_rng(form.word_bits)).clip(
        form.unit - 2.0**form.magnitude_bits, 2.0**form.magnitude_bits - form.unit
    )
    words = fitting(form.encode(points), case, form)
    both, expected = run(case, words, form), case.plain(form.decode(words))
    for result in (both.result, both.expected):
        assert case.excess(form.decode(np.asarray(result)), expected, form) <= 0
    shifted = form.decode(np.asarray(both.result)) * (1 + 2.0**-20) + (2 * case.units + 1) * form.unit + 2.0**-23
    assert case.excess(shifted, expected, form) > 0, "a result that is further off must not pass"


@pytest.mark.parametrize("name", CASES)
def test_functions_cost_what_they_say(name: str) -> None:
    case, length = CASES[name], 6400
    costs = [
        run(case, form.encode(np.full(length, 1.5)), form).declared for form in [*FORMS, DEAREST] if form.fraction_bits
    ]
    assert max(cost.rounds for cost in costs) == case.rounds
    assert case.payload - 1 <= max(cost.payload_bytes for cost in costs) / 3 / length <= case.payload


@pytest.mark.parametrize("name", CASES)
def test_chunks_make_no_difference(name: str) -> None:
    case, form = CASES[name], FixedPoint(16, 16)
    words = form.encode(np.linspace(0.5, 9, 200))
    for chunk in (64, 128):
        both = run(case, words, form, chunk)
        assert case.excess(form.decode(np.asarray(both.result)), case.plain(form.decode(words)), form) <= 0
    nothing = run(case, np.zeros(0, np.uint64), form)
    assert nothing.sent_bytes == (0, 0, 0)
    assert len(nothing.result) == 0


@pytest.mark.parametrize("form", [FixedPoint(16, 29), FixedPoint(31, 1), FixedPoint(1, 31)], ids=str)
@pytest.mark.parametrize("circuit", [case.circuit for case in CASES.values()])
def test_forms_that_leave_no_room_are_refused(
    circuit: Callable[[Engine, Arithmetic, FixedPoint], Arithmetic], form: FixedPoint
) -> None:
    def program(engine: Engine, operands: Operands) -> Arithmetic:
        with pytest.raises(InvalidArgument, match="at most 30 bits before and behind"):
            circuit(engine, operands.x_shared(engine), form)
        return operands.x_shared(engine)

    assert measured(program, Operands(*(np.arange(3, dtype=np.uint64),) * 2)).sent_bytes == (0, 0, 0)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_quotients_are_as_near_as_they_say(form: FixedPoint) -> None:
    rng = np.random.default_rng(form.word_bits)
    divisors = form.decode(form.encode(of_both_signs(form, rng)))
    most = np.minimum(1.0, np.abs(divisors)) * (2.0**form.magnitude_bits - 2 * form.unit)
    dividends = most * rng.uniform(-1, 1, len(divisors)) * np.exp2(-rng.integers(0, form.word_bits, len(divisors)))
    dividends[::7] = np.where(np.abs(divisors[::7]) >= 1, np.abs(divisors[::7]), 0)
    operands = Operands(form.encode(dividends), form.encode(divisors))
    both = measured(lambda e, o: divide(e, o.x_shared(e), o.y_shared(e), form), operands)
    expected = form.decode(operands.x) / divisors
    allowed = 2.0**-26 * np.abs(expected) + (2 + 2 / np.abs(divisors)) * form.unit
    assert (np.abs(form.decode(both.result) - expected) <= allowed).all()
    assert both.sent_bytes == both.declared.sent_bytes
    assert both.declared.rounds <= 48
    assert both.declared.payload_bytes / 3 / len(divisors) <= 430


def test_the_root_of_zero_is_zero_and_powers_vanish() -> None:
    form = FixedPoint(20, 20)
    zeros = np.zeros(500, np.uint64)
    assert not np.asarray(run(CASES["square root"], zeros, form).result).any()
    lowest = form.encode(np.full(500, form.unit - 2.0**20))
    assert not np.asarray(run(CASES["exponential"], lowest, form).result).any()
    assert np.abs(form.decode(np.asarray(run(CASES["sigmoid"], lowest, form).result))).max() <= form.unit


# -- approximations ----------------------------------------------------------------------------------------------------
def test_goldschmidts_start_is_as_near_as_stated() -> None:
    """1 - y (a - 2 y), to the eighth power, on a grid of [1/2, 1]."""
    y = np.linspace(0.5, 1, 10_001)
    rest = np.abs(1 - y * (4 * np.sqrt(3) - 4 - 2 * y))
    assert rest.max() <= 7 - 4 * np.sqrt(3) + 1e-15
    assert rest.max() ** 8 < 7.1e-10


def polynomials() -> list[tuple[Callable[[Reals], Reals], float, float, float]]:
    """All that are in use, for every form that functions take."""
    logarithms = {max(2.0 ** -(bits + 2), 2.0**-26) for bits in range(PRECISION + 1)}
    return [(np.exp2, 0.0, 1.0, 2.0**-31), *((np.log, 0.5, 1.0, error) for error in sorted(logarithms))]


@pytest.mark.parametrize(("function", "low", "high", "error"), polynomials())
def test_polynomials_are_within_their_error_between_the_grid(
    function: Callable[[Reals], Reals], low: float, high: float, error: float
) -> None:
    polynomial = fitted(function, low, high, error)
    x = np.random.default_rng(0).uniform(low, high, 20_000)
    u = np.ldexp(x - polynomial.middle, polynomial.stretch)
    assert np.abs(np.polynomial.Polynomial(polynomial.coefficients)(u) - function(x)).max() <= error * 1.001


def test_coefficients_are_the_same_on_all_machines() -> None:
    """None is near a half: floating-point noise, below 1e-4 after scaling, does not change what it is rounded to."""
    for polynomial in [*(fitted(*arguments) for arguments in polynomials()), _start()]:
        scaled = [Fraction(a) * 2**polynomial.coefficient_bits for a in polynomial.coefficients]
        assert all(abs(value - round(value)) < Fraction(499, 1000) for value in scaled)


def test_a_polynomial_at_secret_points_is_within_the_stated_units() -> None:
    polynomial = fitted(np.log, 0.5, 1.0, 2.0**-20)
    form = FixedPoint(PRECISION, 1)
    words = form.encode(np.concatenate([np.linspace(0.5, 1, 3000), [0.5, 1.0]]))
    both = measured(lambda e, o: evaluated(e, polynomial, o.x_shared(e)), Operands(words, words))
    u = np.ldexp(form.decode(words) - polynomial.middle, polynomial.stretch)
    distance = np.abs(form.decode(both.result) - np.polynomial.Polynomial(polynomial.coefficients)(u)) / form.unit
    count = len(polynomial.coefficients)
    half = 2.0 ** (PRECISION - 1 - polynomial.coefficient_bits)
    powers = sum(max(power - 1, 0) * abs(a) for power, a in enumerate(polynomial.coefficients))
    assert distance.max() <= 1 + powers + count * half
    assert both.sent_bytes == both.declared.sent_bytes
    degree = count - 1
    assert both.declared.rounds == 3 * (degree - 1).bit_length() + 2
    assert both.rounds <= both.declared.rounds
    assert both.declared.payload_bytes == len(words) * (52 * (degree - 1) + 28)
