"""Where a session's Spark runs, beside this process or behind Spark Connect; and its time zone."""

from __future__ import annotations

from pyspark.sql import SparkSession

__all__ = ["is_classic", "runs_here", "session_zone"]


def is_classic(spark: SparkSession) -> bool:
    """Whether the session's driver belongs to this process and sees its files; that of Connect may be anywhere."""
    return hasattr(spark, "newSession")


def runs_here(spark: SparkSession) -> bool:
    """Whether the executors are on this machine. A Connect server's local master says nothing of where that is."""
    return is_classic(spark) and (spark.conf.get("spark.master") or "").startswith("local")


def session_zone(spark: SparkSession) -> str:
    """The time zone in which the session reads and cuts instants of time."""
    return spark.conf.get("spark.sql.session.timeZone") or "UTC"
