"""Differential privacy on Spark: what a release costs, and how noise is drawn. Knows no lake, no party, no network.

from spark_mpc import dp

query = frame.groupBy("ward", keys=wards, max_groups=4, max_rows=4).agg(dp.count(), dp.mean("los", 0, 60))
"""

from dp._about import DISTRIBUTION, __version__
from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP
from dp.errors import BudgetExceeded, InvalidArgument, SparkMpcError
from dp.execution.release import Release
from dp.frames.accessor import install_accessor, private
from dp.frames.frame import PrivateFrame
from dp.frames.grouped import PrivateQuery
from dp.frames.targets import ErrorBudget, relative
from dp.frames.tune import Tuning, tune
from dp.frames.units import ROW, normalize_id, window
from dp.functions import (
    chosen_quantile,
    count,
    count_distinct,
    count_units,
    covariance,
    histogram,
    max,
    mean,
    median,
    min,
    most_frequent,
    private_keys,
    quantiles,
    stddev,
    sufficient_statistics,
    sum,
    top_k,
    truncated_share,
    unit_sum,
    variance,
    vector_sum,
)
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts

install_accessor()  # every DataFrame has df.dp(...)

__all__ = [
    "DISTRIBUTION",
    "ROW",
    "ZCDP",
    "ApproxDP",
    "Budget",
    "BudgetExceeded",
    "ContributionBounds",
    "ErrorBudget",
    "InvalidArgument",
    "PrivateFrame",
    "PrivateQuery",
    "PublicFacts",
    "PureDP",
    "Release",
    "RenyiDP",
    "SparkMpcError",
    "Tuning",
    "__version__",
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
    "normalize_id",
    "private",
    "private_keys",
    "quantiles",
    "relative",
    "stddev",
    "sufficient_statistics",
    "sum",
    "top_k",
    "truncated_share",
    "tune",
    "unit_sum",
    "variance",
    "vector_sum",
    "window",
]
