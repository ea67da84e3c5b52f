"""ATTACKS 20: the ledger is debited before the first byte of noise is drawn, for public keys and for private ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from dp.accounting.ledger import Claim
from dp.execution import one_lake
from dp.frames.frame import PrivateFrame
from dp.noise.entropy import os_random
from dp.planning.facts import PublicFacts
from lake.ledger import Ledger
from spark_mpc import dp

pytestmark = pytest.mark.slow


def test_noise_is_drawn_after_the_debit(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Watched(Ledger):
        def arm(self, claim: Claim, resume: bytes) -> None:
            super().arm(claim, resume)
            happened.append("debit")

    def drawn(count: int) -> bytes:
        happened.append("noise")
        return os_random(count)

    monkeypatch.setattr(one_lake, "os_random", drawn)
    df = spark.range(100).selectExpr("id", "cast(id % 2 AS int) AS k")
    frame = PrivateFrame(spark, df, PublicFacts(("id",), max_units=100), "t", "1")
    Ledger.create(tmp_path / "ledger", capacity=dp.ApproxDP(10, "1e-3"))
    query = frame.groupBy("k", keys=dp.private_keys(strategy="laplace"), max_groups=1, max_rows=1).agg(dp.count())
    query.release(epsilon="2", delta="1e-4", ledger=Watched.open(tmp_path / "ledger"))
    assert happened[0] == "debit"
    assert "noise" in happened[1:]
    assert happened.count("debit") == 1
