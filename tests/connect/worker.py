"""A client of a Spark Connect server, as a process of its own: classic and Connect sessions share no process.

`python -m tests.connect.worker URL FOLDER LEDGER STAGING PACKAGES` prints one line of JSON, what became of every
question and of every check, and ends when its standard input does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pyspark.sql import SparkSession

from dp.errors import SparkMpcError
from dp.execution.bounding import ARROW_SETTINGS
from lake.ledger import Ledger
from spark_mpc import dp
from tests.connect.questions import LONG_KEYS, QUESTIONS, REFUSED, Answer, Question, Site

__all__ = ["CHECKS", "main"]


def _settings(site: Site) -> Answer:
    """Tables are read with settings of their own, the caller's stay as they are, and frames of two tables can meet."""
    names = ["spark.sql.ansi.enabled", *ARROW_SETTINGS]
    before = [site.spark.conf.get(name) for name in names]
    reading = site.table("visits").df.sparkSession
    wanted = ["false", *ARROW_SETTINGS.values()]
    return {
        "reading": [reading.conf.get(name) for name in names] == wanted,
        "caller": [site.spark.conf.get(name) for name in names] == before != wanted,
        "shared": site.table("bills").df.sparkSession is reading,
    }


def _time_zone(site: Site) -> Answer:
    """A change of the caller's time zone counts for tables that are read afterwards, and leaves others alone."""
    name = "spark.sql.session.timeZone"
    before = site.table("visits")
    kept = site.spark.conf.get(name)
    site.spark.conf.set(name, "Asia/Kathmandu")
    after = site.table("visits")
    site.spark.conf.set(name, kept or "UTC")
    return [before.df.sparkSession.conf.get(name) == kept, after.df.sparkSession.conf.get(name)]


def _closed_by_the_server(site: Site) -> Answer:
    """A reading session that the server gave up is replaced."""
    lost = site.table("visits").df.sparkSession
    lost.client.release_session()  # type: ignore[attr-defined]
    found = site.table("visits").private()
    return [found.df.sparkSession is not lost, site.released(found.agg(dp.count(), max_rows=8))[0]]


def _other_session(site: Site) -> Answer:
    """Rows of the caller's own session and rows of a table cannot meet on Connect."""
    rows = site.spark.read.format("delta").load(str(site.folder / "visits"))
    return str(site.table("visits").private().union(rows.dp(unit="id", null_units="drop")))  # type: ignore[operator]


def _no_staging(site: Site) -> Answer:
    """Nobody knows where the server's executors are: a long vector needs a place that was given."""
    grouped = site.table("visits").private().groupBy("code", keys=list(range(LONG_KEYS)), max_groups=8, max_rows=8)
    return str(grouped.agg(dp.median("cost")).release(999_999, ledger=site.ledger))


CHECKS: Mapping[str, Question] = {
    "settings": _settings,
    "time zone": _time_zone,
    "closed by the server": _closed_by_the_server,
    "other session": _other_session,
    "no staging": _no_staging,
}


def outcome(question: Callable[[Site], Answer], site: Site) -> Answer:
    """The answer, or the error that this project promises; any other ends the process."""
    try:
        return question(site)
    except SparkMpcError as error:
        return f"{type(error).__name__}: {error}"


def main(url: str, folder: str, ledger: str, staging: str, packages: str) -> None:
    spark = SparkSession.builder.remote(url).getOrCreate()
    spark.addArtifacts(packages, pyfile=True)
    site = Site(spark, Path(folder), Ledger.open(ledger), Path(staging))
    every = {**QUESTIONS, **REFUSED, **CHECKS}
    print(json.dumps({name: outcome(question, site) for name, question in every.items()}), flush=True)
    spark.stop()  # a session that was not stopped makes Spark wait, at the end, for a server that is gone
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
