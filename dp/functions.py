"""The functions of an `agg(...)`: `dp.count()`, `dp.sum("cost", 0, 5000)`, and so on, as Spark's `functions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from dp.errors import InvalidArgument
from dp.exact import Exact, rational
from dp.planning.cells import Norm
from dp.planning.choices import MostFrequent
from dp.planning.counts import Count, CountDistinct, CountUnits, Histogram, TopK, TruncatedShare
from dp.planning.facts import Key
from dp.planning.keys import PrivateKeys, Strategy
from dp.planning.means import Mean, Stddev, Variance
from dp.planning.moments import Covariance, SufficientStatistics
from dp.planning.quantiles import Quantiles, RankValue
from dp.planning.rank_choices import ChosenRank
from dp.planning.sums import Sum, UnitSum, VectorSum

__all__ = [
    "chosen_quantile",
    "count",
    "count_distinct",
    "count_units",
    "covariance",
    "histogram",
    "max",
    "mean",
    "median",
    "min",
    "most_frequent",
    "private_keys",
    "quantiles",
    "stddev",
    "sufficient_statistics",
    "sum",
    "top_k",
    "truncated_share",
    "unit_sum",
    "variance",
    "vector_sum",
]

_MOST_COORDINATES = 4096


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
    low, high, imputed = _clamp(lower, upper, missing=missing)
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
    low, high, imputed = _clamp(lower, upper, missing=missing)
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


def count_distinct(column: str) -> CountDistinct:
    """The number of different values of a column, NULL and NaN apart, in the rows that contribution bounds let through.

    Args:
        column: an integer, string, boolean, date, binary or real column; reals are compared as doubles.
    """
    _check_column(column)
    return CountDistinct(name=f"count_distinct_{column}", column=column)


def unit_sum(column: str, lower: Exact, upper: Exact) -> UnitSum:
    """The sum over privacy units of each one's total in the group, that total clamped.

    Its noise follows `max_groups` and the bounds alone: a unit may have any number of rows.

    Args:
        column: a numeric column; missing values add nothing.
        lower: least total of one unit in one group.
        upper: greatest total of one unit in one group.

    Raises:
        InvalidArgument: bounds that are reversed, NaN, infinite or missing.
    """
    _check_column(column)
    low, high, _ = _clamp(lower, upper, missing=None)
    return UnitSum(name=f"unit_sum_{column}", column=column, lower=low, upper=high)


def variance(
    column: str, lower: Exact | None = None, upper: Exact | None = None, *, missing: Exact | None = None
) -> Variance:
    """The population variance of a column over each group, from three noisy sums: of 1, x - c and (x - c)^2.

    Declare the table's `max_units`: with fewer units, squares are added up at a finer resolution.

    Args:
        column: a numeric column.
        lower: least value of one row; smaller ones are clamped. Default: the table's declared bound.
        upper: greatest value of one row; likewise.
        missing: the value that NULL and NaN count as; None (default) leaves such rows out.

    Raises:
        InvalidArgument: bounds that are reversed, NaN or infinite, or only one of them.
    """
    _check_column(column)
    low, high, imputed = _clamp(lower, upper, missing=missing)
    return Variance(name=f"variance_{column}", column=column, lower=low, upper=high, missing=imputed)


def stddev(
    column: str, lower: Exact | None = None, upper: Exact | None = None, *, missing: Exact | None = None
) -> Stddev:
    """The population standard deviation of a column over each group: the root of its noisy `variance`.

    Args:
        column: a numeric column.
        lower: least value of one row; smaller ones are clamped. Default: the table's declared bound.
        upper: greatest value of one row; likewise.
        missing: the value that NULL and NaN count as; None (default) leaves such rows out.

    Raises:
        InvalidArgument: bounds that are reversed, NaN or infinite, or only one of them.
    """
    _check_column(column)
    low, high, imputed = _clamp(lower, upper, missing=missing)
    return Stddev(name=f"stddev_{column}", column=column, lower=low, upper=high, missing=imputed)


def vector_sum(columns: Sequence[str], *, bound: Exact, norm: Norm = "l2") -> VectorSum:
    """The sum of rows' vectors over each group, a list; every row's vector is shrunk to a norm of at most `bound`.

    Args:
        columns: its coordinates, numeric columns; a row in which one is missing is left out. Each coordinate is
            clamped to -bound..bound first.
        bound: > 0, the greatest norm of one row's vector.
        norm: "l1", "l2" or "linf".

    Raises:
        InvalidArgument: no column or too many, a bound that is not positive, or an unknown norm.
    """
    names = _columns(columns)
    exact = rational(bound, "bound")
    if exact <= 0:
        raise InvalidArgument("bound", bound, "the greatest norm of a row's vector is positive")
    if norm not in ("l1", "l2", "linf"):
        raise InvalidArgument("norm", norm, 'a norm is "l1", "l2" or "linf"')
    return VectorSum(name="vector_sum", columns=names, norm=norm, bound=exact)


def top_k(column: str, k: int, values: Sequence[Key]) -> TopK:
    """The k most frequent ones of a public list of values, with their counts, over each group.

    All candidates are counted with noise once; so the list may be long, and k costs nothing. Where nobody can list
    the values, group by the column with private keys. Where no counts are needed, `most_frequent` finds one value
    more surely.

    Args:
        column: an integer, string or boolean column.
        k: how many are shown, >= 1.
        values: the candidates.

    Raises:
        InvalidArgument: no candidates, duplicates, values of several types, or k < 1.
    """
    listed = _candidates(column, k, values)
    return TopK(name=f"top_{k}_{column}", column=column, k=k, values=listed)


def most_frequent(column: str, values: Sequence[Key], k: int = 1) -> MostFrequent:
    """The k most frequent ones of a public list of values, in order and without their counts, over each group.

    They are chosen by exact counts, one after another. One value is found more surely than by the highest of noisy
    counts. For several, `top_k` is better: its noise does not grow with k, while every choice has a part of the budget.
    In a group without rows any value may be chosen.

    Args:
        column: an integer, string or boolean column.
        values: the candidates.
        k: how many are chosen, >= 1.

    Raises:
        InvalidArgument: no candidates, duplicates, values of several types, or k < 1.
    """
    listed = _candidates(column, k, values)
    return MostFrequent(name=f"most_frequent_{column}", column=column, k=k, values=listed)


def truncated_share() -> TruncatedShare:
    """The share of privacy units from which contribution bounds took rows: how much bounding hides, itself private."""
    return TruncatedShare(name="truncated_share", share=Fraction(1, 10))


def private_keys(
    *,
    strategy: Strategy = "best",
    min_units: int = 1,
    weight: Exact = 1,
    epsilon: Exact | None = None,
    delta: Exact | None = None,
    other: str | None = None,
) -> PrivateKeys:
    """Keys that the data have, each named only if enough privacy units have it; needs a delta.

    Args:
        strategy: "truncated_geometric" names the most groups where a unit is in few; "laplace" and "gaussian" compare
            a noisy number of units with a threshold, "gaussian" being best where a unit is in many. "best" chooses
            by these public numbers.
        min_units: groups of fewer units are never named, whatever the noise (the pre-threshold).
        weight: the selection's relative share of epsilon; every aggregate's is 1 unless it says otherwise.
        epsilon: what the selection spends, as an amount in the place of a weight.
        delta: what it spends of delta. Default: all of it, or half where the aggregates have Gaussian noise.
        other: where all grouping columns are strings, the key under which the rows of all other groups are added up;
            one that no row has, or the answer has two rows of that name.

    Raises:
        InvalidArgument: an unknown strategy, or numbers out of range.
    """
    share = rational(weight, "weight")
    if share <= 0:
        raise InvalidArgument("weight", weight, "a share of the budget is positive")
    amounts = {"epsilon": epsilon, "delta": delta}
    exact = {name: None if amount is None else rational(amount, name) for name, amount in amounts.items()}
    for name, amount in exact.items():
        if amount is not None and amount <= 0:
            raise InvalidArgument(name, amounts[name], "a selection costs something: give a positive amount")
    return PrivateKeys(strategy, min_units, share, other, **exact)


def quantiles(column: str, ranks: Sequence[Exact], lower: Exact | None = None, upper: Exact | None = None) -> Quantiles:
    """Values below which given shares of a group's rows lie, as a list; more ranks cost nothing.

    Args:
        column: a numeric column; missing values are left out.
        ranks: increasing, each within 0..1: 0 is the minimum, 1 the maximum.
        lower: least value of one row; smaller ones are clamped. Default: the table's declared bound.
        upper: greatest value of one row; likewise. Close bounds make a finer grid.

    Raises:
        InvalidArgument: no ranks, ranks that do not increase or are outside 0..1, or impossible bounds.
    """
    _check_column(column)
    if not isinstance(ranks, (list, tuple)):
        raise InvalidArgument("ranks", ranks, "give a list of ranks, such as [0.25, 0.5, 0.75]")
    exact = tuple(rational(rank, "ranks") for rank in ranks)
    if not exact or any(a >= b for a, b in pairwise(exact)) or not 0 <= exact[0] <= exact[-1] <= 1:
        raise InvalidArgument("ranks", [str(rank) for rank in ranks], "give increasing ranks within 0..1")
    low, high, _ = _clamp(lower, upper, missing=None)
    return Quantiles(name=f"quantiles_{column}", column=column, ranks=exact, lower=low, upper=high)


def median(column: str, lower: Exact | None = None, upper: Exact | None = None) -> RankValue:
    """The median of a column over each group; see `quantiles`."""
    return _rank_value("median", column, Fraction(1, 2), lower, upper)


def chosen_quantile(
    column: str, rank: Exact = Fraction(1, 2), lower: Exact | None = None, upper: Exact | None = None
) -> ChosenRank:
    """One quantile by private choice (permute-and-flip): several times closer than `median`, without an error bar.

    Every rank costs again, and tables of several lakes have none: see `quantiles` for those.

    Args:
        column: a numeric column; missing values are left out.
        rank: within 0..1; the median by default.
        lower: least value of one row; smaller ones are clamped. Default: the table's declared bound.
        upper: greatest value of one row; likewise. Close bounds make a finer grid.

    Raises:
        InvalidArgument: a rank outside 0..1 or with more than six digits, or impossible bounds.
    """
    _check_column(column)
    exact = rational(rank, "rank")
    if not 0 <= exact <= 1 or exact.denominator > 10**6:
        raise InvalidArgument("rank", str(rank), "give a rank within 0..1, of at most six digits")
    low, high, _ = _clamp(lower, upper, missing=None)
    return ChosenRank(name=f"quantile_{column}", column=column, rank=exact, lower=low, upper=high)


def min(column: str, lower: Exact | None = None, upper: Exact | None = None) -> RankValue:
    """The least value of a column over each group, as far as noise lets it be told; see `quantiles`.

    The few rows at the end that noise could have made do not count.
    """
    return _rank_value("min", column, Fraction(0), lower, upper)


def max(column: str, lower: Exact | None = None, upper: Exact | None = None) -> RankValue:
    """The greatest value of a column over each group, as far as noise lets it be told; see `min`."""
    return _rank_value("max", column, Fraction(1), lower, upper)


def covariance(columns: Sequence[str], bounds: Mapping[str, tuple[Exact, Exact]] | None = None) -> Covariance:
    """The population covariance matrix of columns over each group: d x d numbers, row by row.

    Args:
        columns: numeric columns; a row in which one is missing is left out.
        bounds: column -> (lower, upper); every row's values are clamped. Default: the table's declared bounds.

    Raises:
        InvalidArgument: no column or too many, or bounds that are reversed, NaN or infinite.
    """
    names = _columns(columns)
    return Covariance(name="covariance", columns=names, bounds=_pairs(names, bounds))


def sufficient_statistics(
    columns: Sequence[str], bounds: Mapping[str, tuple[Exact, Exact]] | None = None
) -> SufficientStatistics:
    """What a linear regression needs: n, the sum of each column, the sums of x_i x_j for i <= j; a list in this order.

    Args:
        columns: numeric columns, the response among them; a row in which one is missing is left out.
        bounds: column -> (lower, upper); every row's values are clamped. Default: the table's declared bounds.

    Raises:
        InvalidArgument: no column or too many, or bounds that are reversed, NaN or infinite.
    """
    names = _columns(columns)
    return SufficientStatistics(name="sufficient_statistics", columns=names, bounds=_pairs(names, bounds))


def _rank_value(name: str, column: str, rank: Fraction, lower: Exact | None, upper: Exact | None) -> RankValue:
    _check_column(column)
    low, high, _ = _clamp(lower, upper, missing=None)
    return RankValue(name=f"{name}_{column}", column=column, ranks=(rank,), lower=low, upper=high)


def _pairs(
    columns: tuple[str, ...], bounds: Mapping[str, tuple[Exact, Exact]] | None
) -> tuple[tuple[Fraction | None, Fraction | None], ...]:
    given = dict(bounds or {})
    unknown = sorted(given.keys() - set(columns))
    if unknown:
        raise InvalidArgument("bounds", unknown, f"bounds belong to the columns {list(columns)}")
    clamps = (_clamp(*given.get(column, (None, None)), missing=None) for column in columns)
    return tuple((lower, upper) for lower, upper, _ in clamps)


def _columns(columns: Sequence[str]) -> tuple[str, ...]:
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    if not 1 <= len(names) <= _MOST_COORDINATES or len(set(names)) < len(names):
        raise InvalidArgument("columns", list(names)[:5], f"name 1 to {_MOST_COORDINATES} columns, each only once")
    for name in names:
        _check_column(name)
    return names


def _candidates(column: str, k: int, values: Sequence[Key]) -> tuple[Key, ...]:
    _check_column(column)
    listed = tuple(values)
    kinds = {type(value) for value in listed}
    if len(kinds) != 1 or not kinds <= {int, str, bool} or len(set(listed)) < len(listed):
        raise InvalidArgument("values", list(listed)[:5], "give candidates of one type, each only once")
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= len(listed):
        raise InvalidArgument("k", k, f"give a number from 1 to {len(listed)}, the number of candidates")
    return listed


def _check_column(column: object) -> None:
    if not isinstance(column, str):
        shown = None if column is None else type(column).__name__  # its content may be rows
        raise InvalidArgument("column", shown, "give the name of a column, as a string")


def _clamp(
    lower: Exact | None, upper: Exact | None, *, missing: Exact | None
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
