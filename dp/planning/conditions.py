"""Conditions that fix values of columns: `ward = 'a' AND year IN (2024, 2025)`, read from the steps of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dp.planning.facts import Key

__all__ = ["Allowed", "Typed", "allowed_values", "both", "trailing_conditions", "typed"]

Typed = tuple[str, Key]
"""A key and its type: True and 1 are different keys."""

Allowed = Mapping[str, frozenset[Typed]]
"""Columns, and the values that their rows can have."""

_WHERE = "where "


def typed(key: Key) -> Typed:
    """The key with its type."""
    return type(key).__name__, key


def trailing_conditions(filters: Sequence[str]) -> Iterator[str]:
    """The conditions of the last steps, which look at the columns that the query sees."""
    for step in reversed(filters):
        if not step.startswith(_WHERE):
            return
        yield step.removeprefix(_WHERE)


def allowed_values(condition: str) -> Allowed | None:
    """What a condition leaves, if it compares plain columns with whole numbers, strings and truth values and no more.

    Args:
        condition: SQL text that was accepted as a condition on rows.

    Returns:
        every column that it names, with its values; rows in which the column is NULL, or another value, are left out,
        and no other row is. None where it says anything else than = and IN, joined by AND.
    """
    try:
        return _of_node(sqlglot.parse_one(condition, dialect="spark", into=exp.Condition))
    except SqlglotError:
        return None


def both(one: Allowed, other: Allowed) -> Allowed:
    """What two conditions leave together."""
    return {**one, **{column: one.get(column, values) & values for column, values in other.items()}}


def _of_node(node: exp.Expr) -> Allowed | None:
    if isinstance(node, exp.Paren):
        return _of_node(node.this)
    if isinstance(node, exp.And):
        left, right = _of_node(node.left), _of_node(node.right)
        return None if left is None or right is None else both(left, right)
    if isinstance(node, exp.EQ):
        return _listed(node.left, [node.right])
    if isinstance(node, exp.In) and node.expressions and set(_given(node)) == {"this", "expressions"}:
        return _listed(node.this, node.expressions)
    return None


def _listed(column: exp.Expr, values: Sequence[exp.Expr]) -> Allowed | None:
    literals = [_literal(value) for value in values]
    if not isinstance(column, exp.Column) or set(_given(column)) != {"this"}:
        return None
    if not isinstance(column.this, exp.Identifier) or any(value is None for value in literals):
        return None
    return {column.name: frozenset(typed(value) for value in literals if value is not None)}


def _literal(node: exp.Expr) -> Key | None:
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Neg):
        inner = _literal(node.this)
        return -inner if isinstance(inner, int) and not isinstance(inner, bool) else None
    if not isinstance(node, exp.Literal):
        return None
    text = str(node.this)
    if node.is_string:
        return text
    return int(text) if text.isascii() and text.isdigit() else None


def _given(node: exp.Expr) -> Iterator[str]:
    return (name for name, value in node.args.items() if value)
