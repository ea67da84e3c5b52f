"""The session that reads tables: of the caller's Spark, with settings of its own, classic or Connect."""

from __future__ import annotations

import atexit
from weakref import WeakKeyDictionary

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from dp.execution.bounding import ARROW_SETTINGS
from dp.execution.sessions import is_classic

__all__ = ["reading_session"]

# What private frames compute is the same under ANSI mode and without it. These make it hold, as far as settings can,
# for what an owner adds to `Table.df` by hand.
_TOTAL = {
    "spark.sql.ansi.enabled": "false",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
    # the text of a condition is what runs, and means the same everywhere
    "spark.sql.variable.substitute": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.caseSensitive": "false",
}
_INHERITED = ("spark.sql.session.timeZone", "spark.sql.shuffle.partitions")

_Inherited = tuple[str, ...]

_CLONES: WeakKeyDictionary[SparkSession, dict[_Inherited, SparkSession]] = WeakKeyDictionary()
"""The clones of Connect's sessions. There, DataFrames of two sessions never meet: the tables that a caller may want to
join have to share one. It lives as long as the caller's session."""


def reading_session(spark: SparkSession) -> SparkSession:
    """A session of the same Spark whose settings are fast, and raise on no value; the caller's stay as they are.

    Args:
        spark: the caller's session. Its time zone and number of shuffle partitions count, and what opens its storage,
            such as credentials that were set at run time.

    Returns:
        On classic Spark a new session for every call. On Connect one clone for all calls with equal settings, with the
        caller's temporary views, functions and artifacts.
    """
    inherited = tuple(spark.conf.get(name) or "" for name in _INHERITED)
    session = spark.newSession() if is_classic(spark) else _clone(spark, inherited)
    storage = {row["key"]: row["value"] for row in spark.sql("SET").collect() if row["key"].startswith("fs.")}
    for name, value in {**dict(zip(_INHERITED, inherited, strict=True)), **storage, **_TOTAL, **ARROW_SETTINGS}.items():
        session.conf.set(name, value)
    return session


def _clone(spark: SparkSession, inherited: _Inherited) -> SparkSession:
    clones = _CLONES.setdefault(spark, {})
    if inherited not in clones or not _is_alive(clones[inherited]):
        clones[inherited] = clone = spark.cloneSession()  # type: ignore[attr-defined]
        atexit.register(clone.client.close)  # Spark's own handler waits for minutes if the server is gone by then
    return clones[inherited]


def _is_alive(session: SparkSession) -> bool:
    """Whether the server still knows the session: it closes those that were idle for an hour."""
    try:
        session.conf.get("spark.sql.ansi.enabled")
    except PySparkException:
        return False
    return True
