"""The functions of an `agg(...)`: `dp.count()`, `dp.sum("cost", 0, 5000)`, and so on, as Spark's `functions`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from dp.errors import InvalidArgument
from dp.exact import Exact, rational
from dp.planning.aggregates import Count, CountUnits, Histogram, Mean, Sum

__all__ = ["count", "count_units", "histogram", "mean", "sum"]


def count() -> Count:
    """The number of rows of each group, NULL or not."""
    return Count(name="count")


def count_units() -> CountUnits:
    """The number of privacy units of each group; over several parties, a unit counts at each party that has it."""
    return CountUnits(name="count_units")


def sum(column: str, lower: Exact | None = None, upper: Exact | None = None, *, missing: Exact | None = None) -> Sum:
    """The sum of a column over each group.

    Args:
        column: a numeric column.
        lower: least value of one row; smaller ones (-inf too) are clamped. Default: the table's declared bound.
        upper: greatest value of one row; likewise.
        missing: the value that NULL and NaN count as, clamped too; None (default) leaves such rows out of the sum.

    Raises:
        InvalidArgument: bounds that are reversed, NaN or infinite, or only one of them.
    """
    _check_column(column)
    low, high, imputed = _clamp(lower, upper, missing)
    return Sum(name=f"sum_{column}", column=column, lower=low, upper=high, missing=imputed)


def mean(column: str, lower: Exact | None = None, upper: Exact | None = None, *, missing: Exact | None = None) -> Mean:
    """The mean of a column over each group: a noisy sum, counted from the middle of the bounds, over a noisy count.

    Args:
        column: a numeric column.
        lower: least value of one row; smaller ones (-inf too) are clamped. Default: the table's declared bound.
        upper: greatest value of one row; likewise.
        missing: the value that NULL and NaN count as, clamped too; None (default) leaves such rows out of sum and
            count.

    Raises:
        InvalidArgument: bounds that are reversed, NaN or infinite, or only one of them.
    """
    _check_column(column)
    low, high, imputed = _clamp(lower, upper, missing)
    return Mean(name=f"mean_{column}", column=column, lower=low, upper=high, missing=imputed)


def histogram(column: str, edges: Sequence[Exact]) -> Histogram:
    """Rows per bin of a column over each group; missing values (NULL, NaN) are in no bin.

    Args:
        column: a numeric column.
        edges: at least two strictly increasing edges; bin i holds edges[i] <= x < edges[i + 1]. Values below the
            first edge count in the first bin, values from the last edge on in the last.

    Raises:
        InvalidArgument: fewer than two edges, or edges that do not increase.
    """
    _check_column(column)
    exact = tuple(rational(edge, "edges") for edge in edges)
    if len(exact) < 2 or any(a >= b for a, b in pairwise(exact)):
        raise InvalidArgument("edges", list(edges), "give at least two strictly increasing edges")
    return Histogram(name=f"histogram_{column}", column=column, edges=exact)


def _check_column(column: object) -> None:
    if not isinstance(column, str):
        raise InvalidArgument("column", column, "give the name of a numeric column")


def _clamp(
    lower: Exact | None, upper: Exact | None, missing: Exact | None
) -> tuple[Fraction | None, Fraction | None, Fraction | None]:
    imputed = None if missing is None else rational(missing, "missing")
    if lower is None and upper is None:
        return None, None, imputed
    if lower is None or upper is None:
        raise InvalidArgument("bounds", (lower, upper), "give both bounds, or neither where the table declares them")
    low, high = rational(lower, "lower"), rational(upper, "upper")
    if low > high:
        raise InvalidArgument("bounds", (lower, upper), "the lower bound comes first and is not above the upper one")
    return low, high, imputed
