"""What a program opened: integers, with their noise or without any."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from html import escape

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from dp.accounting.budget import Budget
from dp.execution.rendering import pretty
from dp.noise.accuracy import Noise, NoiseTerm
from spark_mpc.programs.plan import Body, ProgramNoise
from spark_mpc.run import Outcome

__all__ = ["ProgramRelease"]

_SHOWN = 100


@dataclass(frozen=True, eq=False)
class ProgramRelease:
    """What a recipient holds after a program: integers with error bars, already paid for.

    Attributes:
        body: what was computed.
        noise: of every cell; None where they are exact.
        disclosure: the name under which they were opened without noise, or "".
        values: int64, of the result's shape.
        run_id: the run that opened them.
        price: what this owner's ledger paid, once.
        paid_before: whether it was answered from a stored release: nothing was charged this time.
        spark: the session in which `df` appears.
        notices: what else to know: who pays from a ledger never seen before.
    """

    body: Body
    noise: ProgramNoise | None
    disclosure: str
    values: NDArray[np.int64]
    run_id: str
    price: Budget
    paid_before: bool
    spark: SparkSession = field(repr=False)
    notices: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, body: Body, noise: ProgramNoise | None, disclosure: str, outcome: Outcome, spark: SparkSession
    ) -> ProgramRelease:
        """The release of opened cells."""
        values = outcome.stored.words.view(np.int64).reshape(body.result.shape)
        paid = (outcome.stored.run_id, outcome.price, outcome.paid_before)
        return cls(body, noise, disclosure, values, *paid, spark, outcome.notices)

    @property
    def stddev(self) -> float:
        """Standard deviation of the noise in each value."""
        return 0.0 if self.noise is None else self.noise.mechanism.stddev

    def half_width(self, confidence: float = 0.95) -> float:
        """Of the interval around each value that covers the noise, not the cutting off of inputs.

        Args:
            confidence: 0 < confidence <= 1 - 1e-9.
        """
        if self.noise is None:
            return 0.0
        return Noise((NoiseTerm(self.noise.mechanism, 1.0, 1),)).quantile(confidence)

    @cached_property
    def table(self) -> pa.Table:
        """One row for each value, in the result's order: cell, value, stddev, lower, upper, confidence."""
        values, half = self.values.ravel(), self.half_width()
        columns = {
            "cell": np.arange(len(values)),
            "value": values,
            "stddev": np.full(len(values), self.stddev),
            "lower": values - half,
            "upper": values + half,
            "confidence": np.full(len(values), 0.95 if self.noise else 1.0),
        }
        return pa.table(columns)

    @property
    def df(self) -> DataFrame:
        """`table` as an ordinary DataFrame over stored values."""
        return self.spark.createDataFrame(self.table)

    def show(self) -> None:
        """Print every value with its interval."""
        print(self)  # noqa: T201

    def __str__(self) -> str:
        return "\n".join([*self._lines("+- "), self._footer(), *self.notices])

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{line}</li>" for line in self._lines("&plusmn; "))
        said = escape(" ".join([self._footer(), *self.notices]))
        return f"<b>{escape(self.body.name)}</b><ul>{rows}</ul><p>{said}</p>"

    def _lines(self, bar: str) -> list[str]:
        half = f" {bar}{pretty(self.half_width())}" if self.noise else ""
        flat = self.values.ravel()
        more = [f"{len(flat) - _SHOWN:,} more of {len(flat):,}: values and df have them all"]
        return [f"{value:,}{half}" for value in flat[:_SHOWN].tolist()] + (more if len(flat) > _SHOWN else [])

    def _footer(self) -> str:
        if self.disclosure:
            return f"EXACT, disclosed as {self.disclosure!r}: no privacy guarantee. Run {self.run_id[:12]}."
        paid = "free, answered from the ledger" if self.paid_before else f"paid {self.price}"
        return f"95% intervals cover the noise, not what was cut off. {paid}, run {self.run_id[:12]}."
