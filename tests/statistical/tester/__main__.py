"""Judge every case in full: `python -m tests.statistical.tester [--jobs N] [WORD...]`; words choose cases by name.

Exit status 1 if a plan's own noise is rejected, or a twin with 15% less noise is not.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context

from pyspark.sql import SparkSession

from tests.statistical.tester.cases import all_cases, raw_rows
from tests.statistical.tester.pipeline import Encoded, encoded
from tests.statistical.tester.suite import Judge, every_judge
from tests.statistical.tester.verdicts import FALSE_ALARM, Verdict


def main() -> int:
    """Print a line a case; 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.statistical.tester", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("words", nargs="*", help="judge the cases whose names hold all of these")
    asked = parser.parse_args()
    started = time.monotonic()
    names = [name for name in _judges() if all(word in name for word in asked.words)]
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    codes = encoded(spark, [case.plan for case in all_cases()], raw_rows())
    spark.stop()
    wrong = 0
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("fork")) as pool:
        for verdict in pool.map(partial(_judged, codes), names):
            wrong += verdict.wrong
            print(_line(verdict), flush=True)
    print(f"{len(names)} cases, {wrong} wrong, false-alarm rate {FALSE_ALARM} each, {time.monotonic() - started:.0f} s")
    return int(wrong > 0)


def _judged(codes: Encoded, name: str) -> Verdict:
    return _judges()[name](codes)


@cache  # workers are forked and find it made
def _judges() -> dict[str, Judge]:
    return dict(every_judge(list(all_cases())))


def _line(verdict: Verdict) -> str:
    word = "WRONG" if verdict.wrong else "ok" if verdict.tight else "ok (loose)"
    losses = f"ours {verdict.ours:+.4f}  15% less {verdict.too_small:+.4f}"
    return f"{word:10} {losses}  {verdict.moved:2} cells  {verdict.case}"


if __name__ == "__main__":
    sys.exit(main())
