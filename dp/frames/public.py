"""Public tables for joins: read once, into memory, so that what was digested is what is joined."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dp.errors import InvalidArgument
from dp.frames.kinds import kind_of
from dp.planning.names import quoted

__all__ = ["MOST_PUBLIC_ROWS", "PublicTable"]

MOST_PUBLIC_ROWS = 2**20
"""A public table has at most so many rows: it travels through the driver to every executor."""


@dataclass(frozen=True)
class PublicTable:
    """The rows of a public table; made by `PublicTable.read`.

    Attributes:
        schema: its Spark types.
        rows: its content.
        digest: of the schema and the rows, whatever their order.
    """

    schema: T.StructType
    rows: pa.Table
    digest: str

    @classmethod
    def read(cls, df: object) -> PublicTable:
        """Read a DataFrame, here and now; nothing of it is private.

        Raises:
            InvalidArgument: not a DataFrame, too many rows, or a column of a type that expressions do not know.
        """
        if not isinstance(df, DataFrame):
            remedy = "give an ordinary DataFrame of public rows; two private frames are joined by join_on_unit"
            raise InvalidArgument("other", type(df).__name__, remedy)
        for field in df.schema.fields:
            if kind_of(field.dataType) is None or df.columns.count(field.name) > 1:
                remedy = "drop or cast it first: its type is not supported, or its name is there twice"
                raise InvalidArgument("other", f"{field.name} {field.dataType.simpleString()}", remedy)
        rows = df.limit(MOST_PUBLIC_ROWS + 1).toArrow()
        if rows.num_rows > MOST_PUBLIC_ROWS:
            remedy = (
                f"a public table has at most {MOST_PUBLIC_ROWS:,} rows; join larger ones where the table is written"
            )
            raise InvalidArgument("other", f"more than {MOST_PUBLIC_ROWS:,} rows", remedy)
        return cls(df.schema, rows, _digest(df.schema, rows))

    def most_matches(self, on: Sequence[str]) -> int:
        """The most rows here that one row can meet; a key with a NULL meets nobody."""
        keys = zip(*(self.rows.column(name).to_pylist() for name in on), strict=True)
        return max(Counter(key for key in keys if None not in key).values(), default=0)

    def to_df(self, spark: SparkSession, on: Sequence[str]) -> DataFrame:
        """The rows in a session, with the compared columns named "__on0", "__on1" and so on."""
        names = {name: f"__on{index}" for index, name in enumerate(on)}
        rows = spark.createDataFrame(self.rows, schema=self.schema)
        return rows.select(*(F.col(quoted(name)).alias(names.get(name, name)) for name in self.schema.names))


def _digest(schema: T.StructType, rows: pa.Table) -> str:
    types = [(field.name, field.dataType.simpleString()) for field in schema.fields]
    hashes = sorted(hashlib.sha256(repr(list(row.values())).encode()).digest() for row in rows.to_pylist())
    return hashlib.sha256(repr(types).encode() + b"".join(hashes)).hexdigest()
