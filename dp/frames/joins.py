"""Joins of private rows, on Spark: with a public table, and with each other on their unit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.frames.kinds import kind_of
from dp.frames.public import PublicTable
from dp.planning.names import quoted

__all__ = ["join_bounded", "join_public"]

_NO_HASH = (T.MapType, T.VariantType)


def join_public(rows: DataFrame, public: PublicTable, on: Sequence[str], how: str) -> DataFrame:
    """Every row with the public rows of its key; `how="left"` keeps those that have none."""
    table = public.to_df(rows.sparkSession, on)
    joined = rows.join(F.broadcast(table), _equal(rows, on), how)
    return _selected(joined, (*rows.columns, *(name for name in public.schema.names if name not in on)))


def join_bounded(
    left: DataFrame, right: DataFrame, *, on: Sequence[str], unit: Sequence[str], max_rows: tuple[int, int], salt: int
) -> DataFrame:
    """Pairs of rows of one unit with equal keys, of at most `max_rows` rows of each unit on either side.

    Guarantees: which rows of a unit stay depends on the salt and on that unit's rows, not on their order or
        partitions; a row whose unit is NULL belongs to nobody and is dropped.
    Cost: an exchange by unit of each side.
    """
    ours, theirs = (_bounded(df, unit, most, salt) for df, most in zip((left, right), max_rows, strict=True))
    others = [name for name in right.columns if name not in on]
    keys = [F.col(quoted(name)).alias(f"__on{index}") for index, name in enumerate(on)]
    renamed = theirs.select(*keys, *(F.col(quoted(name)) for name in others))
    return _selected(ours.join(renamed, _equal(ours, on), "inner"), (*left.columns, *others))


def _bounded(df: DataFrame, unit: Sequence[str], most: int, salt: int) -> DataFrame:
    present = reduce(and_, (F.col(quoted(name)).isNotNull() for name in unit))
    hashed = [F.col(quoted(f.name)) for f in df.schema.fields if not isinstance(f.dataType, _NO_HASH)]
    # rows that collide, and some do under every salt, are told apart by their content: never by the order of arrival
    order = Window.partitionBy(*(F.col(quoted(name)) for name in unit)).orderBy(
        F.xxhash64(F.lit(salt), *hashed), *hashed
    )
    rank = F.row_number().over(order)
    ranked = df.where(present).withColumn("__rank", rank).where(F.col("__rank") <= F.lit(most))
    return ranked.drop("__rank")


def _equal(rows: DataFrame, on: Sequence[str]) -> Column:
    """Both sides cast to the kind of the key, so that no implicit cast is left."""
    kinds = [kind_of(rows.schema[name].dataType) for name in on]
    pairs = [
        F.col(quoted(name)).cast(kind) == F.col(f"__on{index}").cast(kind)
        for index, (name, kind) in enumerate(zip(on, kinds, strict=True))
        if kind is not None
    ]
    return reduce(and_, pairs)


def _selected(df: DataFrame, columns: Sequence[str]) -> DataFrame:
    return df.select(*(F.col(quoted(name)) for name in columns))
