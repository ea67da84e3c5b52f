"""`df.dp(...)`: private rows from an ordinary DataFrame, classic or Connect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame

from dp.errors import InvalidArgument
from dp.exact import Exact
from dp.frames.declared import NullUnits, declare
from dp.frames.frame import PrivateFrame
from dp.frames.units import Unit
from dp.planning.facts import DEFAULT_MAX_UNITS, Key

__all__ = ["install_accessor", "private"]


def private(
    df: DataFrame,
    *,
    unit: Unit,
    name: str = "dataframe",
    bounds: Mapping[str, tuple[Exact, Exact]] | None = None,
    keys: Mapping[str, Sequence[Key]] | None = None,
    max_units: int = DEFAULT_MAX_UNITS,
    null_units: NullUnits = "refuse",
    group_size: int = 1,
) -> PrivateFrame:
    """The rows of a DataFrame behind the only operations that keep them private; also `df.dp(...)`.

    The guarantee covers what follows, and nothing before: not how `df` was made, nor what was looked at to make it. If
    computing `df` can raise on a row's value, so can a query. Nothing pins the rows, so no stored release is ever used
    again: every release is a new one with a new price.

    Args:
        df: the rows.
        unit: whom to protect: column(s), nested as in "person.id", an expression, `dp.ROW` or `dp.window(...)`.
        name: what ledgers and explanations call the rows.
        bounds: column -> (lower, upper); the clamp where an aggregate names none.
        keys: column -> the public list of its group keys.
        max_units: the greatest number of units that there may be.
        null_units: "drop" leaves rows out whose unit is NULL; "refuse" takes only columns that are NOT NULL.
        group_size: the guarantee holds for so many units together.

    Raises:
        InvalidArgument: a fact that the schema contradicts.
    """
    if not isinstance(df, DataFrame):
        raise InvalidArgument("df", type(df).__name__, "give a DataFrame")
    rows, facts = declare(
        df,
        unit=unit,
        bounds=bounds,
        keys=keys,
        max_units=max_units,
        null_units=null_units,
        group_size=group_size,
    )
    spark = df.sparkSession
    partitions = int(spark.conf.get("spark.sql.shuffle.partitions") or 2)
    return PrivateFrame(spark, rows, facts, name, None, partitions)


def install_accessor() -> None:
    """Give every DataFrame the method `dp`; classic and Connect ones share the parent that gets it.

    It is a method of the class: nothing is kept in a DataFrame, whose attributes are lost on the next operation.
    """
    DataFrame.dp = private  # type: ignore[attr-defined]
