"""One owner, one lake: a private answer in a dozen lines. Run it anywhere that Spark runs:

spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 examples/one_lake.py TABLE LEDGER
"""

import sys

from pyspark.sql import SparkSession

from spark_mpc import dp, lake

if __name__ == "__main__":
    table, ledger = sys.argv[1:]
    spark = SparkSession.builder.appName("one lake").getOrCreate()
    claims = lake.Table.forPath(spark, table, unit="zper", null_units="drop", max_units=10**6).private()
    query = claims.groupBy("coins", keys=[0, 25, 50, 95, 100], max_groups=1, max_rows=5).agg(
        dp.count().alias("person_years"), dp.mean("mdvis", 0, 20).alias("mean_visits")
    )
    print(query.explain(epsilon="1"))
    query.release(epsilon="1", ledger=lake.Ledger.open(ledger)).show()
    print(f"answered by {dp.__file__}")
    spark.stop()
