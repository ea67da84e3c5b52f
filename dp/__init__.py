"""Differential privacy on Spark: what a release costs, and how noise is drawn. Knows no lake, no party, no network.

from spark_mpc import dp

query = frame.groupBy("ward", keys=wards, max_groups=4, max_rows=4).agg(dp.count(), dp.mean("los", 0, 60))
"""

from dp._about import DISTRIBUTION, __version__
from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP
from dp.errors import BudgetExceeded, InvalidArgument, SparkMpcError
from dp.execution.release import Release
from dp.frames.frame import PrivateFrame, PrivateQuery
from dp.functions import count, count_units, histogram, mean, sum
from dp.planning.bounds import ContributionBounds
from dp.planning.facts import PublicFacts

__all__ = [
    "DISTRIBUTION",
    "ZCDP",
    "ApproxDP",
    "Budget",
    "BudgetExceeded",
    "ContributionBounds",
    "InvalidArgument",
    "PrivateFrame",
    "PrivateQuery",
    "PublicFacts",
    "PureDP",
    "Release",
    "SparkMpcError",
    "__version__",
    "count",
    "count_units",
    "histogram",
    "mean",
    "sum",
]
