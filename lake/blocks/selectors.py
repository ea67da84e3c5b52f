"""Selectors: conditions on where blocks lie, as in `(TIME >= "2026-03-01") & USERS.isin(0, 1)`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

from dp.errors import InvalidArgument
from lake.blocks.block import Block
from lake.blocks.instants import Instant, seconds_of, text_of

__all__ = ["TIME", "USERS", "Condition", "Dimension", "Selector"]

_COMPARE: Mapping[str, Callable[[int, int], bool]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, "==": operator.eq, ">=": operator.ge, ">": operator.gt}
)
_IN = "in"


@dataclass(frozen=True)
class Condition:
    """One comparison of a block's place with given values.

    Attributes:
        dimension: "time" or "users".
        operator: "<", "<=", "==", ">=", ">" or "in".
        values: seconds since 1970-01-01 UTC, or numbers of ranges; several for "in" alone, in order, each once.
    """

    dimension: str
    operator: str
    values: tuple[int, ...]

    @property
    def exact(self) -> bool:
        """Whether it names the places of single blocks."""
        return self.operator in ("==", _IN)

    def matches(self, block: Block) -> bool:
        """Whether a block lies so; one that the dimension does not cut never does."""
        place = block.start if self.dimension == TIME.name else block.user_range
        if place is None:
            return False
        if self.operator == _IN:
            return place in self.values
        return _COMPARE[self.operator](place, self.values[0])

    def to_json(self) -> list[object]:
        """Dimension, operator, and the values as a caller would write them."""
        return [self.dimension, self.operator, [_written(self.dimension, value) for value in self.values]]

    def __str__(self) -> str:
        values = [repr(_written(self.dimension, value)) for value in self.values]
        name = self.dimension.upper()
        return f"{name}.isin({', '.join(values)})" if self.operator == _IN else f"({name} {self.operator} {values[0]})"


@dataclass(frozen=True, repr=False)
class Selector:
    """Which blocks are meant: those that satisfy all conditions. Made from `TIME` and `USERS`; combined with `&`.

    Attributes:
        conditions: in the order in which they were written; none select every block.
    """

    conditions: tuple[Condition, ...] = ()

    def matches(self, block: Block) -> bool:
        """Whether a block is meant."""
        return all(condition.matches(block) for condition in self.conditions)

    @property
    def time_span(self) -> tuple[int | None, int | None]:
        """No block is meant whose window begins before the first or after the last, in seconds; None: no bound."""
        of_time = [condition for condition in self.conditions if condition.dimension == TIME.name]
        first = [min(c.values) for c in of_time if c.operator in (">", ">=", "==", _IN)]
        last = [max(c.values) for c in of_time if c.operator in ("<", "<=", "==", _IN)]
        return max(first, default=None), min(last, default=None)

    def to_json(self) -> list[object]:
        """The exact form for the record: one list per condition, in order."""
        return [condition.to_json() for condition in self.conditions]

    @classmethod
    def from_json(cls, fields: object) -> Selector:
        """Read what `to_json` wrote.

        Raises:
            InvalidArgument: anything else.
        """
        if not isinstance(fields, list):
            raise InvalidArgument("selector", fields, "give the list that Selector.to_json() wrote")
        selector = cls(tuple(_condition(entry) for entry in fields))
        if selector.to_json() != fields:
            raise InvalidArgument("selector", fields, f"write it canonically: {selector.to_json()}")
        return selector

    def __and__(self, other: Selector) -> Selector:
        if not isinstance(other, Selector):
            raise InvalidArgument("selector", repr(other), 'combine selectors: (TIME >= "2026-03-01") & USERS.isin(0)')
        return Selector(self.conditions + other.conditions)

    def __bool__(self) -> NoReturn:
        remedy = 'a selector is no truth value: combine with & and parentheses, (TIME >= "a") & (TIME < "b")'
        raise InvalidArgument("selector", repr(self), remedy)

    def __repr__(self) -> str:
        return " & ".join(map(str, self.conditions)) or "every block"


@dataclass(frozen=True, eq=False)
class Dimension:
    """A direction along which tables are cut into blocks: `TIME` or `USERS`. Comparing it makes a `Selector`.

    Attributes:
        name: "time" or "users".
    """

    name: str

    def isin(self, *values: Instant | int) -> Selector:
        """Blocks at one of these places.

        Raises:
            InvalidArgument: no value, or one that is no place along this dimension.
        """
        if not values:
            raise InvalidArgument("isin", [], "name at least one block")
        places = sorted({_place(self.name, value) for value in values})
        return Selector((Condition(self.name, _IN, tuple(places)),))

    def between(self, lower: Instant | int, upper: Instant | int) -> Selector:
        """Blocks from one place to another, both included, as in Spark."""
        return (self >= lower) & (self <= upper)

    def __lt__(self, value: Instant | int) -> Selector:
        return self._compared("<", value)

    def __le__(self, value: Instant | int) -> Selector:
        return self._compared("<=", value)

    def __ge__(self, value: Instant | int) -> Selector:
        return self._compared(">=", value)

    def __gt__(self, value: Instant | int) -> Selector:
        return self._compared(">", value)

    def __eq__(self, value: Instant | int) -> Selector:  # type: ignore[override]  # as Spark's columns do
        return self._compared("==", value)

    def __ne__(self, value: object) -> NoReturn:
        raise InvalidArgument(self.name.upper(), value, "blocks are named by what they are: use isin, < or >")

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name.upper()

    def _compared(self, with_operator: str, value: object) -> Selector:
        return Selector((Condition(self.name, with_operator, (_place(self.name, value),)),))


TIME = Dimension("time")
"""Where a block's window of time begins: `TIME >= "2026-03-01"` takes the windows that begin on that day or later."""

USERS = Dimension("users")
"""The number of a block's range of users, from 0."""


def _place(dimension: str, value: object) -> int:
    if dimension == "time":
        return seconds_of(value, "TIME")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidArgument("USERS", value, "give the number of a range of users, from 0")
    return value


def _written(dimension: str, place: int) -> str | int:
    return text_of(place) if dimension == "time" else place


def _condition(entry: Any) -> Condition:
    dimensions = {"time": TIME, "users": USERS}
    match entry:
        case [str(name), str(op), [_, *_] as values] if name in dimensions and op == _IN:
            return dimensions[name].isin(*values).conditions[0]
        case [str(name), str(op), [value]] if name in dimensions and op in _COMPARE:
            return Condition(name, op, (_place(name, value),))
    raise InvalidArgument("selector", entry, 'a condition is ["time" or "users", an operator, [values]]')
