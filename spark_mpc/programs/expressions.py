"""What a program computes, as a value: operations on secret integers, written down before anything is shared.

A program's function is called once, on expressions. Each knows what is public of it: shape, greatest magnitude, and how
far one privacy unit moves it. So what would wrap, or fit nothing, is refused at the line that says it. Later the three
parties carry out what was written down, and nothing else.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from spark_mpc.programs.changes import (
    UNCHANGED,
    Change,
    Size,
    compared,
    matrix_product,
    product,
    selected,
    summed,
)
from spark_mpc.protocols.plain import Plain
from spark_mpc.shared.base import Secret
from spark_mpc.shared.choice import clip
from spark_mpc.shared.choice import select as select_shared
from spark_mpc.shared.ints import SharedBits, SharedInts

__all__ = [
    "Expression",
    "SecretBits",
    "SecretInts",
    "Value",
    "described",
    "evaluated",
    "inputs_of",
    "secret_input",
    "select",
    "to_json",
]

Value = SharedInts | SharedBits | int | NDArray[np.int64]
"""What an expression stands for when it is carried out: secret, or public."""

Moved = tuple[Change, Size]
"""What is known of an operand."""

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class _Operation:
    """One kind of step.

    Attributes:
        run: on values.
        change: of the result, from what is known of the operands.
    """

    run: Callable[..., Value]
    change: Callable[..., Change]


@dataclass(frozen=True, eq=False, repr=False)
class Expression(Secret):
    """A step of a program, or one of its inputs.

    Attributes:
        operation: its name; "input" and "public" are no operations.
        operands: what it works on.
        parameters: public, as JSON values.
        zeros: the same steps in the clear, where all inputs are zero; it has the shape and the bounds.
        changes: by party, how far one unit's rows there move it.
        number: operands have lower ones.
    """

    operation: str
    operands: tuple[Expression, ...]
    parameters: tuple[Any, ...]
    zeros: Value
    changes: Mapping[str, Change]
    number: int = field(default_factory=lambda: next(_NUMBERS))

    @property
    def size(self) -> Size:
        """What is public of it."""
        return _size(self.zeros)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is secret; public."""
        return self.size.shape


class SecretBits(Expression):  # noqa: PLW1641 - as its base
    """Secret truth values of a program, shape (n,)."""

    def __len__(self) -> int:
        return self.shape[0]

    def __invert__(self) -> SecretBits:
        return _bits("not", self)

    def __and__(self, other: SecretBits) -> SecretBits:
        return _bits("and", self, other)

    def __or__(self, other: SecretBits) -> SecretBits:
        return _bits("or", self, other)

    def __xor__(self, other: SecretBits) -> SecretBits:
        return _bits("xor", self, other)

    def __eq__(self, other: object) -> SecretBits:  # type: ignore[override]
        return ~_bits("xor", self, other)

    def __ne__(self, other: object) -> SecretBits:  # type: ignore[override]
        return _bits("xor", self, other)

    def to_ints(self) -> SecretInts:
        """Zeros and ones."""
        return _ints("to_ints", self)


class SecretInts(Expression):  # noqa: PLW1641 - as its base
    """Secret integers of a program; operators are those of `SharedInts`, and nothing opens them but its release."""

    @property
    def bound(self) -> int:
        """The greatest magnitude that the values can have; public."""
        return self.size.bound

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: slice) -> SecretInts:
        """Elements at public places, of the first axis."""
        if not isinstance(at, slice):
            raise InvalidArgument("at", at, "take a slice, such as x[0:1]")
        return _ints("take", self, parameters=at.indices(len(self)))

    def reshape(self, *shape: int) -> SecretInts:
        """In another shape."""
        return _ints("reshape", self, parameters=shape)

    def sum(self, axis: int | None = None) -> SecretInts:
        """Over all elements (shape (1,)) or an axis."""
        return _ints("sum", self, parameters=(axis,))

    def dot(self, other: SecretInts) -> SecretInts:
        """Inner product with integers of the same shape, shape (1,)."""
        return _ints("dot", self, other)

    def __neg__(self) -> SecretInts:
        return _ints("negative", self)

    def __add__(self, other: Operand) -> SecretInts:
        return _ints("add", self, other)

    def __sub__(self, other: Operand) -> SecretInts:
        return _ints("subtract", self, other)

    def __mul__(self, other: Operand) -> SecretInts:
        return _ints("multiply", self, other)

    def __radd__(self, other: int) -> SecretInts:
        return self + other

    def __rsub__(self, other: int) -> SecretInts:
        return -self + other

    def __rmul__(self, other: int) -> SecretInts:
        return self * other

    def __matmul__(self, other: SecretInts) -> SecretInts:
        return _ints("matmul", self, other)

    def __lt__(self, other: SecretInts | int) -> SecretBits:
        return _bits("less", self, other)

    def __gt__(self, other: SecretInts | int) -> SecretBits:
        return _bits("greater", self, other)

    def __ge__(self, other: SecretInts | int) -> SecretBits:
        return ~(self < other)

    def __le__(self, other: SecretInts | int) -> SecretBits:
        return ~(self > other)

    def __eq__(self, other: object) -> SecretBits:  # type: ignore[override]
        return _bits("equal", self, other)

    def __ne__(self, other: object) -> SecretBits:  # type: ignore[override]
        return ~(self == other)

    def clipped(self, lower: int, upper: int) -> SecretInts:
        """Between two public integers: what lies beyond becomes the nearer of them."""
        return _ints("clip", self, parameters=(int(lower), int(upper)))


Operand = SecretInts | int | NDArray[np.integer[Any]]


def select(condition: SecretBits, x: SecretInts, y: SecretInts) -> SecretInts:
    """x where the condition holds, else y; all of one shape (n,)."""
    if not (isinstance(condition, SecretBits) and isinstance(x, SecretInts) and isinstance(y, SecretInts)):
        given = [type(operand).__name__ for operand in (condition, x, y)]
        raise InvalidArgument("condition, x, y", given, "give secret truth values, and secret integers to choose from")
    return _ints("select", condition, x, y)


def secret_input(name: str, owner: str, cells: int, bound: int, change: Change) -> SecretInts:
    """An input of one party.

    Args:
        name: of the input.
        owner: whose integers they are.
        cells: how many.
        bound: the greatest magnitude of one.
        change: how far one unit's rows at the owner move them.
    """
    twin = Plain()
    zeros = SharedInts(twin, twin.constant(np.zeros(cells, np.uint64)), bound)
    size = Size((cells,), bound)
    return SecretInts("input", (), (name,), zeros, {owner: change.within(size)})


def to_json(result: Expression) -> list[list[object]]:
    """Every step that the result needs: operation, the numbers of its operands, parameters.

    Equal programs are equal lists; what a function wrote down and did not use is left out.
    """
    steps = _steps(result)
    places = {step.number: place for place, step in enumerate(steps)}
    return [
        [step.operation, [places[operand.number] for operand in step.operands], list(step.parameters)] for step in steps
    ]


def inputs_of(result: Expression) -> list[Expression]:
    """The inputs that a result stands on."""
    return [step for step in _steps(result) if step.operation == "input"]


def described(result: Expression) -> list[str]:
    """A line for every step, for people: its number, operation, operands and parameters."""
    lines = []
    for number, (operation, operands, parameters) in enumerate(to_json(result)):
        named = [f"#{operand}" for operand in operands]  # type: ignore[attr-defined]
        shown = [str(value) for value in parameters]  # type: ignore[attr-defined]
        lines.append(f"#{number} = {operation}({', '.join([*named, *shown])})")
    return lines


def evaluated(result: Expression, inputs: Mapping[str, SharedInts]) -> Value:
    """Carry out the steps that a result needs.

    Args:
        result: of the program.
        inputs: by name, as large as they were declared; of one engine.
    """
    values: dict[int, Value] = {}
    for step in _steps(result):
        if step.operation == "input":
            given = inputs[step.parameters[0]]
            assert _size(given) == step.size
            values[step.number] = given
        elif step.operation == "public":
            values[step.number] = step.zeros
        else:
            operands = (values[operand.number] for operand in step.operands)
            values[step.number] = _OPERATIONS[step.operation].run(*operands, *step.parameters)
    return values[result.number]


def _steps(result: Expression) -> list[Expression]:
    """The result and what it needs, operands first."""
    found: dict[int, Expression] = {}
    open_ones = [result]
    while open_ones:
        step = open_ones.pop()
        if step.number not in found:
            found[step.number] = step
            open_ones.extend(step.operands)
    return [found[number] for number in sorted(found)]


def _ints(operation: str, *operands: object, parameters: Sequence[Any] = ()) -> SecretInts:
    return SecretInts(*_step(operation, operands, tuple(parameters)))


def _bits(operation: str, *operands: object) -> SecretBits:
    return SecretBits(*_step(operation, operands, ()))


def _step(
    operation: str, operands: Sequence[object], parameters: tuple[Any, ...]
) -> tuple[str, tuple[Expression, ...], tuple[Any, ...], Value, dict[str, Change]]:
    read = tuple(map(_operand, operands))
    rule = _OPERATIONS[operation]
    try:
        zeros = rule.run(*(operand.zeros for operand in read), *parameters)
    except (ValueError, TypeError, IndexError, AttributeError) as error:  # of numpy, about zeros: nothing secret in it
        shapes = [operand.shape for operand in read]
        raise InvalidArgument(operation, (*shapes, *parameters), f"operands that do not fit: {error}") from error
    size = _size(zeros)
    parties = sorted({party for operand in read for party in operand.changes})
    changes = {
        party: rule.change(*((operand.changes.get(party, UNCHANGED), operand.size) for operand in read)).within(size)
        for party in parties
    }
    return operation, read, parameters, zeros, changes


def _size(value: Value) -> Size:
    if isinstance(value, SharedInts):
        return Size(value.shape, value.bound)
    if isinstance(value, SharedBits):
        return Size(value.shape, 1)
    magnitudes = [abs(int(number)) for number in np.ravel(value)]
    return Size(np.shape(value), max(magnitudes, default=0))


def _operand(value: object) -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return Expression("public", (), (int(value),), int(value), {})
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        whole = value.astype(np.int64)
        if value.dtype.kind == "u" and bool((whole < 0).any()):
            raise InvalidArgument("operand", "an integer of 2^63 or more", "give integers below 2^63")
        return Expression("public", (), (whole.tolist(),), whole, {})
    raise InvalidArgument("operand", type(value).__name__, "give secret integers of the program, or public integers")


def _first(x: Moved, *_: Moved) -> Change:
    return x[0]


def _added(x: Moved, y: Moved) -> Change:
    return x[0] + y[0]


def _multiplied(x: Moved, y: Moved) -> Change:
    return product(*x, *y)


def _summed(x: Moved) -> Change:
    return summed(x[0])


def _of_either(x: Moved, y: Moved) -> Change:
    return compared(x[0], y[0])


_OPERATIONS: Mapping[str, _Operation] = {
    "add": _Operation(operator.add, _added),
    "subtract": _Operation(operator.sub, _added),
    "negative": _Operation(operator.neg, _first),
    "multiply": _Operation(operator.mul, _multiplied),
    "dot": _Operation(lambda x, y: x.dot(y), lambda x, y: summed(product(*x, *y))),
    "matmul": _Operation(operator.matmul, lambda x, y: matrix_product(*x, *y)),
    "sum": _Operation(lambda x, axis: x.sum(axis), _summed),
    "take": _Operation(lambda x, start, stop, by: x[np.arange(start, stop, by)], _first),
    "clip": _Operation(clip, _first),  # two integers are no further apart when they are clipped
    "reshape": _Operation(lambda x, *shape: x.reshape(*shape), _first),
    "less": _Operation(operator.lt, _of_either),
    "greater": _Operation(operator.gt, _of_either),
    "equal": _Operation(operator.eq, _of_either),
    "not": _Operation(operator.invert, _first),
    "and": _Operation(operator.and_, _of_either),
    "or": _Operation(operator.or_, _of_either),
    "xor": _Operation(operator.xor, _of_either),
    "to_ints": _Operation(lambda bits: bits.to_ints(), _first),
    "select": _Operation(select_shared, lambda condition, x, y: selected(condition[0], *x, *y)),
}
