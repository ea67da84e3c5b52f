"""The operations of private rows that keep their unit: each is checked, applied, and recorded as a step of the plan."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, Self

from pyspark.errors import SessionNotSameException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.execution.sessions import session_zone
from dp.frames import operations as ops
from dp.frames.expressions import Expression, compile_condition, compile_expression
from dp.frames.joins import join_bounded, join_public
from dp.frames.kinds import NOTHING
from dp.frames.public import PublicTable
from dp.frames.rows import PrivateRows
from dp.planning.facts import PublicFacts
from dp.planning.names import quoted

__all__ = ["StepRows"]


class StepRows(PrivateRows):
    """Private rows with the operations whose effect on the unit, the bounds and the declared facts is known.

    Each gives new rows and leaves these as they were. Each is one more text in `steps`, which is part of the plan:
    another spelling is another plan, with another price.
    """

    def where(self, condition: str) -> Self:
        """Keep the rows that satisfy a condition.

        Args:
            condition: SQL text over each row alone, as in "year = 2025"; see `dp.frames.expressions`.

        Raises:
            InvalidArgument: a condition that may raise on a row's value, or looks past the row; it names the part.
        """
        compiled = compile_condition(condition, self.df.schema)
        return self._step(self.df.where(compiled.build()), f"where {condition}{self._zone(compiled)}")

    filter = where

    def select(self, *columns: str) -> Self:
        """Keep these columns, and the unit's.

        Raises:
            InvalidArgument: no such column, or one twice.
        """
        kept = ops.existing(self.df.schema, columns, "select")
        chosen = ops.with_unit(kept, self.facts)
        gone = [name for name in self.df.columns if name not in chosen]
        rows = self.df.select(*(F.col(quoted(name)) for name in chosen))
        return self._step(rows, f"select {ops.listed(kept)}", ops.replaced(self.facts, gone))

    def drop(self, *columns: str) -> Self:
        """Leave columns out.

        Raises:
            InvalidArgument: no such column, or one of the unit's.
        """
        gone = ops.existing(self.df.schema, columns, "drop")
        for name in gone:
            ops.new_name(name, self.facts, "drop")
        rows = self.df.select(*(F.col(quoted(name)) for name in self.df.columns if name not in gone))
        return self._step(rows, f"drop {ops.listed(gone)}", ops.replaced(self.facts, gone))

    def withColumn(self, name: str, expression: str) -> Self:
        """Add a column, or redefine one, whose declared bounds and keys are void then.

        Args:
            name: of the column; not one of the unit's.
            expression: SQL text over each row alone, as in "cost / 100"; see `dp.frames.expressions`. Whole numbers
                become bigint, others double.

        Raises:
            InvalidArgument: a column of the unit, or an expression that may raise or looks past the row.
        """
        ops.new_name(name, self.facts, "name")
        compiled = compile_expression(expression, self.df.schema)
        if compiled.kind == NOTHING:
            raise InvalidArgument("expression", expression, "a NULL has no type: cast it, as in cast(NULL AS int)")
        rows = self.df.withColumn(name, compiled.build())
        step = f"withColumn {ops.listed([name])} = {expression}{self._zone(compiled)}"
        return self._step(rows, step, ops.replaced(self.facts, [name]))

    def withColumnRenamed(self, existing: str, new: str) -> Self:
        """Give a column another name; what was declared about it goes with it.

        Raises:
            InvalidArgument: no such column, one of the unit's, or a name that another column has.
        """
        (old,) = ops.existing(self.df.schema, [existing], "existing")
        ops.new_name(old, self.facts, "existing")
        ops.new_name(new, self.facts, "new")
        if new.casefold() in {name.casefold() for name in self.df.columns if name != old}:
            raise InvalidArgument("new", new, "another column has this name; drop or rename that one first")
        rows = self.df.select(*(F.col(quoted(n)).alias(new if n == old else n) for n in self.df.columns))
        return self._step(rows, f"rename {ops.listed([old])} to {ops.listed([new])}", ops.renamed(self.facts, old, new))

    def explode(self, items: str, *, max_items: int, alias: str | None = None) -> Self:
        """One row for each item of an array; a row without items vanishes.

        Where rows are units, each becomes up to `max_items` units' worth, and noise grows by it. For other units the
        query's own bounds count the rows that come out.

        Args:
            items: a column, or an expression such as "split(lower(review), '[^a-z]+')", that is an array.
            max_items: items of a row that count, from the first; the rest is dropped.
            alias: the new column's name; default: that of the column, which the items then replace.

        Raises:
            InvalidArgument: no array, no bound, or a column of the unit.
        """
        array = compile_expression(items, self.df.schema, "items")
        if not isinstance(array.kind, T.ArrayType):
            raise InvalidArgument("items", items, f"it is {array.kind.simpleString()}; only arrays can be exploded")
        if alias is None and items not in self.df.columns:
            raise InvalidArgument("alias", alias, 'name the new column, as in alias="item"')
        name = ops.new_name(items if alias is None else alias, self.facts, "alias")
        most = ops.check_max_items(max_items)
        facts = ops.multiplied(ops.replaced(self.facts, [name]), most, "max_items")
        others = [F.col(quoted(column)) for column in self.df.columns if column.casefold() != name.casefold()]
        rows = self.df.select(*others, F.explode(F.slice(array.build(), 1, most)).alias(name))
        step = f"explode {items} as {ops.listed([name])}, at most {most}{self._zone(array)}"
        return self._step(rows, step, facts)

    def union(self, other: Self) -> Self:
        """The rows of both, of equal columns and one unit: a unit's rows on both sides count together.

        Raises:
            InvalidArgument: no private frame, another unit, other private blocks, or other columns.
        """
        self._check_private(other, "union")
        ops.check_same_unit(self.facts, other.facts, "a union")
        ops.check_same_blocks(self, other, "a union")
        ops.check_same_columns(self.df.schema, other.df.schema)
        with _one_session(other):
            rows = self.df.unionByName(other.df)
        step = f"union with {ops.nested(other.name, other.steps)}"
        return self._beside(other)._step(rows, step, ops.facts_of_either(self.facts, other.facts))

    def join(self, other: DataFrame, on: str | Sequence[str], how: Literal["inner", "left"] = "inner") -> Self:
        """Add the columns of a public table; it is read here, once, and its content is part of the plan.

        Where rows are units and several public rows have one key, each row becomes that many units' worth.

        Args:
            other: public rows, at most `MOST_PUBLIC_ROWS`. Whatever is in them is not protected.
            on: columns of both sides, written alike, of whole numbers, strings, booleans or dates.
            how: "inner" drops rows without a match, "left" keeps them with NULLs.

        Raises:
            InvalidArgument: a private frame, no or unequal columns to join on, or columns that both sides have.
        """
        if how not in ("inner", "left"):
            raise InvalidArgument("how", how, 'give "inner" or "left": other joins keep rows that belong to nobody')
        public = PublicTable.read(other)
        columns = ops.join_columns(self.df.schema, public.schema, on)
        ops.check_no_clash(self.df.columns, [name for name in public.schema.names if name not in columns])
        facts = ops.multiplied(self.facts, public.most_matches(columns), "other")
        step = f"{how} join on {ops.listed(columns)} with public rows {public.digest}"
        return self._step(join_public(self.df, public, columns, how), step, facts)

    def join_on_unit(self, other: Self, *, max_rows: tuple[int, int], on: str | Sequence[str] | None = None) -> Self:
        """Pairs of rows of one unit: an inner join of two private frames.

        Rows above the bounds are dropped by a salted hash before the join; so one unit makes at most the product of
        both bounds, of which the query's own bounds then count some.

        Args:
            other: rows of the same unit.
            max_rows: rows of one unit that count here, and in `other`.
            on: columns of both sides, the unit's among them; default: the unit's.

        Raises:
            InvalidArgument: another unit, other private blocks, rows as units, a condition that leaves the unit out, or
                no bounds.
        """
        self._check_private(other, "join_on_unit")
        ops.check_same_unit(self.facts, other.facts, "join_on_unit")
        ops.check_same_blocks(self, other, "join_on_unit")
        if not self.facts.unit:
            raise InvalidArgument("other", other.name, "where every row is a unit, no two rows belong together")
        columns = ops.join_columns(self.df.schema, other.df.schema, self.facts.unit if on is None else on)
        if not set(self.facts.unit) <= set(columns):
            remedy = (
                f"private frames meet on their unit: add {', '.join(self.facts.unit)}, so that no row meets another's"
            )
            raise InvalidArgument("on", list(columns), remedy)
        ops.check_no_clash(self.df.columns, [name for name in other.df.columns if name not in columns])
        left, right = ops.check_max_rows(max_rows)
        salt = secrets.randbits(63)
        with _one_session(other):
            rows = join_bounded(self.df, other.df, on=columns, unit=self.facts.unit, max_rows=(left, right), salt=salt)
        whom = ops.nested(other.name, other.steps)
        step = f"join on {ops.listed(columns)}, at most {left} and {right} rows of a unit, with {whom}"
        return self._beside(other)._step(rows, step, ops.facts_of_both(self.facts, other.facts))

    def _zone(self, compiled: Expression) -> str:
        """The time zone, for the step's text: in another zone the same expression asks another question."""
        return f" (time zone {session_zone(self.df.sparkSession)})" if compiled.zoned else ""

    def _step(self, rows: DataFrame, step: str, facts: PublicFacts | None = None) -> Self:
        return replace(self, df=rows, steps=(*self.steps, step), facts=facts or self.facts)

    def _check_private(self, other: object, doing: str) -> None:
        if not isinstance(other, StepRows):
            remedy = f"{doing} takes a private frame; public tables are joined by join(other, on=...)"
            raise InvalidArgument("other", type(other).__name__, remedy)

    def _beside(self, other: Self) -> Self:
        """These rows under both tables' names and versions."""
        partitions = max(self.partitions, other.partitions)
        if (self.name, self.data_version) == (other.name, other.data_version):
            return replace(self, partitions=partitions)
        versions = (self.data_version, other.data_version)
        return replace(
            self,
            name=f"{self.name} + {other.name}",
            data_version=None if None in versions else " + ".join(str(version) for version in versions),
            partitions=partitions,
        )


@contextmanager
def _one_session(other: PrivateRows) -> Iterator[None]:
    """Say what to do where DataFrames of two sessions meet, which only Spark Connect refuses.

    Raises:
        InvalidArgument: they do.
    """
    try:
        yield
    except SessionNotSameException as error:
        remedy = "its rows live in another session of Spark Connect: make both frames alike, by Table.forPath or df.dp"
        raise InvalidArgument("other", other.name, remedy) from error
