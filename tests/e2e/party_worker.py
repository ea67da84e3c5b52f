"""One party as a process that tests command: python -m tests.e2e.party_worker NAME FEDERATION TABLE LEDGER

Reads one JSON object a line from its input, each a release to ask for, and writes one JSON object a line for whatever
happens. Spark, lake, ledger, certificate and port are real; a fault comes through the public progress callback alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pyspark.sql import SparkSession

import spark_mpc as mpc
from spark_mpc import dp, lake
from spark_mpc.federated_frame import FederatedFrame, FederatedQuery
from spark_mpc.federation import Study

CONF = {
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.memory": "512m",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
KEYS = [0, 25, 95]


@dataclass(frozen=True)
class Order:
    """What a test asks of a party.

    Attributes:
        epsilon: of the release; every value is another release.
        fault: "kill", "stop" or "hold" this process when it enters `step`; "" for none.
        step: where.
        doomed_table: write a table there, declare it, and delete its files before the release; "" for none.
        delta: of the release.
        task: "query", or under rep3 "program".
    """

    epsilon: str
    fault: str = ""
    step: str = ""
    doomed_table: str = ""
    delta: str = "0"
    task: str = "query"


class Worker:
    """The party, between its orders."""

    def __init__(self, name: str, spark: SparkSession, said: TextIO) -> None:
        self.name, self.spark = name, spark
        self._said, self._order = said, Order(epsilon="0")

    def say(self, event: str, **content: object) -> None:
        self._said.write(json.dumps({"event": event, **content}) + "\n")
        self._said.flush()

    def entered(self, _party: str, step: str) -> None:
        """The progress callback, and the place of every fault."""
        self.say("step", step=step)
        if step != self._order.step:
            return
        if self._order.fault == "hold":  # whoever holds it there kills it
            threading.Event().wait()
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[self._order.fault])

    def table(self, path: str) -> lake.Table:
        """This party's rows, written where there are none yet: three people with two rows each on every plan."""
        if not Path(path).exists():
            people = [f"{self.name}{plan}-{person}" for plan in KEYS for person in range(3)]
            rows = [(unit, KEYS[i // 3], (7 * i + row) % 11) for i, unit in enumerate(people) for row in range(2)]
            df = self.spark.createDataFrame(rows, "id string, plan int, visits int")
            df.coalesce(1).write.format("delta").save(path)
        return lake.Table.forPath(self.spark, path, unit="id", null_units="drop")

    def serve(self, study: Study, table: str, orders: TextIO) -> None:
        claims = study.contribute("claims", self.table(table), overlap=mpc.DISJOINT)
        self.say("ready")
        for line in orders:
            self._order = Order(**json.loads(line))
            doomed = self._order.doomed_table
            self._obey(self._doomed(study, doomed) if doomed else claims)

    def _doomed(self, study: Study, path: str) -> FederatedFrame:
        claims = study.contribute("claims", self.table(path), overlap=mpc.DISJOINT)
        for file in Path(path).rglob("*.parquet"):
            file.unlink()
        return claims

    def _obey(self, claims: FederatedFrame) -> None:
        asked = {"query": query, "program": program}[self._order.task](claims)
        try:
            release = asked.release(epsilon=self._order.epsilon, delta=self._order.delta)
        except Exception as error:
            self.say("failed", kind=type(error).__name__, message=str(error))
        else:
            assert release is not None
            values = release.table if isinstance(release, mpc.ProgramRelease) else release.answers.values
            self.say("released", run=release.run_id, free=release.paid_before, values=values.to_pydict())


def query(claims: FederatedFrame) -> FederatedQuery:
    """What parties ask for: six cells."""
    groups = claims.groupBy("plan", keys=KEYS, max_groups=1, max_rows=2)
    return groups.agg(dp.count().alias("rows"), dp.sum("visits", 0, 10).alias("visits"))


def program(claims: FederatedFrame) -> mpc.Program:
    """The inner product of two parties' numbers of rows: one cell, for which the three have to compute."""
    rows = claims.groupBy("plan", keys=KEYS, max_groups=1, max_rows=2).agg(dp.count())
    x, y = (mpc.secret(rows, of=name, at_most=100) for name in ("a", "b"))
    return mpc.program(lambda x, y: x.dot(y), name="dot", x=x, y=y)


def main(name: str, federation: str, table: str, ledger: str) -> None:
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever Spark prints goes to the log
    spark = lake.delta_session(f"party {name}", master="local[1]", conf=CONF)
    worker = Worker(name, spark, said)
    parties = mpc.Federation.from_toml(federation, me=name)
    with parties.session(spark, ledger=lake.Ledger.open(ledger), progress=worker.entered) as study:
        worker.serve(study, table, sys.stdin)


if __name__ == "__main__":
    main(*sys.argv[1:])
