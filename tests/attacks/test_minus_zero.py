"""ATTACKS 4 and 18: -0.0 and 0.0 are one value, NaN and NULL are none, however doubles are written."""

from __future__ import annotations

import math
import struct

import pytest
from pyspark.sql import SparkSession

from dp.planning.bounds import ContributionBounds
from dp.planning.plan import make_plan
from spark_mpc import dp
from tests.tools.plans import exact_cells, paper_query

pytestmark = pytest.mark.slow

OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]


def test_zeros_are_one_value_and_what_is_no_number_is_none(spark: SparkSession) -> None:
    values = [0.0, -0.0, math.nan, OTHER_NAN, None, 5e-324, -5e-324, math.inf, -math.inf, 1.0]
    df = spark.createDataFrame([(unit, 0, value) for unit, value in enumerate(values)], "id long, k int, d double")
    bounds = ContributionBounds(max_groups=1, max_rows=1)
    plan = make_plan(paper_query([dp.count_distinct("d")], bounds=bounds), dp.PureDP(1))
    assert exact_cells(df, plan).tolist() == [len({0.0, 5e-324, -5e-324, math.inf, -math.inf, 1.0})]
