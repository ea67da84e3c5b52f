"""Small Delta tables from the data sets that ship inside other packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from spark_mpc import dp

__all__ = ["VERSION", "package_file", "write_table"]

VERSION = 1
"""The version of every table here: 0 made it, 1 filled it."""


def package_file(package: str, path: str) -> Path:
    """A file inside an installed package, found without importing it.

    Raises:
        InvalidArgument: the package or the file is missing.
    """
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        if (Path(folder) / path).is_file():
            return Path(folder) / path
    raise dp.InvalidArgument("package", package, f"it holds this example's data; run: pip install {package}")


def write_table(spark: SparkSession, rows: Callable[[], pd.DataFrame], schema: str, path: Path) -> None:
    """Write a Delta table in one file, unless it is there already.

    Args:
        spark: a session with Delta.
        rows: reads its rows; they have exactly the columns of the schema.
        schema: columns as in CREATE TABLE.
        path: its folder.
    """
    if not DeltaTable.isDeltaTable(spark, str(path)):
        spark.sql(f"CREATE TABLE delta.`{path.resolve()}` ({schema}) USING delta")
        arrow = pa.Table.from_pandas(rows(), preserve_index=False)
        spark.createDataFrame(arrow).coalesce(1).write.format("delta").mode("append").save(str(path))
