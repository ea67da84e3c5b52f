"""Small Delta tables from the data sets that ship inside other packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
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
    """Write a Delta table, unless it is there: version 0 declares the columns, version 1 has all rows.

    Args:
        spark: a session with Delta.
        rows: reads its rows; they have exactly the columns of the schema.
        schema: columns as in CREATE TABLE; what it says is NOT NULL, a plan may rely on.
        path: its folder, absolute.
    """
    if not _has_version(path, 0):
        spark.sql(f"CREATE TABLE delta.`{path}` ({schema}) USING delta")
    if not _has_version(path, VERSION):
        arrow = pa.Table.from_pandas(rows(), preserve_index=False)
        spark.createDataFrame(arrow).coalesce(1).write.format("delta").mode("append").save(str(path))


def _has_version(path: Path, version: int) -> bool:
    return (path / "_delta_log" / f"{version:020}.json").exists()
