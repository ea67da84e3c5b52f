"""A release: opened, noised values as ordinary materialised DataFrames, with their accuracy and what they cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from dp.accounting.budget import Budget, summed
from dp.errors import SparkMpcError
from dp.execution.plots import plot_answers
from dp.execution.rendering import html_table, pretty
from dp.noise.accuracy import Noise, NoiseTerm
from dp.planning.aggregates import Estimate, Opened
from dp.planning.choices import Ranking
from dp.planning.derivable import Derived
from dp.planning.keys import Group
from dp.planning.measures import Measure
from dp.planning.plan import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Answers", "Release", "StoredRelease", "make_answers", "open_cells"]

_MAGIC = b"spark-mpc release 2\n"


@dataclass(frozen=True)
class StoredRelease:
    """A release as a ledger keeps it: asking again needs nothing else.

    Attributes:
        run_id: which run made it.
        words: opened cells, uint64, shape (cells,).
        keys: the groups, where they were private; None where the plan names them.
    """

    run_id: str
    words: NDArray[np.uint64] = field(repr=False)
    keys: tuple[Group, ...] | None = None

    def to_bytes(self) -> bytes:
        """A header line of JSON, then the keys as JSON, if any, then the words, little-endian."""
        keys = b"" if self.keys is None else json.dumps(self.keys).encode()
        header = {"run_id": self.run_id, "cells": len(self.words), "key_bytes": len(keys)}
        return b"".join([_MAGIC, json.dumps(header).encode(), b"\n", keys, self.words.astype("<u8").tobytes()])

    @classmethod
    def from_bytes(cls, data: bytes, plan: Plan) -> StoredRelease:
        """Read what `to_bytes` wrote; strict, because it may come from a peer.

        Raises:
            SparkMpcError: not a release, or not one of this plan.
        """
        if plan.selection is None:
            return cls.of_cells(data, plan.length)
        run_id, key_bytes, words = _parted(data)
        keys = _keys(key_bytes, len(plan.query.by))
        return cls(run_id, _words(words, plan.for_keys(keys).length), keys)

    @classmethod
    def of_public_keys(cls, data: bytes) -> StoredRelease:
        """Read what `to_bytes` wrote of as many cells as it says, whose keys are public, as strictly.

        Raises:
            SparkMpcError: not a release, or one with keys of its own.
        """
        run_id, keys, words = _parted(data)
        return cls(run_id, _words(words, len(words) // 8 if not keys else -1))

    @classmethod
    def of_cells(cls, data: bytes, cells: int) -> StoredRelease:
        """Read what `to_bytes` wrote of so many cells, whose keys are public, as strictly.

        Raises:
            SparkMpcError: not a release, or not one of so many cells.
        """
        run_id, keys, words = _parted(data)
        return cls(run_id, _words(words if not keys else b"", cells))

    def plan(self, asked: Plan) -> Plan:
        """The plan with the release's own keys, where they were private."""
        return asked if self.keys is None else asked.for_keys(self.keys)


def _parted(data: bytes) -> tuple[str, bytes, bytes]:
    """The run, the bytes of the keys, and those of the words."""
    head, _, rest = data.removeprefix(_MAGIC).partition(b"\n")
    if not data.startswith(_MAGIC) or len(head) > 1000:
        raise SparkMpcError(f"a stored release is damaged: {len(data)} bytes without a header")
    run_id, cells, key_bytes = _header(head)
    if len(rest) != key_bytes + 8 * cells:
        raise SparkMpcError(f"a stored release is damaged: {len(data)} bytes for {cells} cells")
    return run_id, rest[:key_bytes], rest[key_bytes:]


def _words(data: bytes, cells: int) -> NDArray[np.uint64]:
    if len(data) != 8 * cells:
        raise SparkMpcError(f"a stored release is damaged: {len(data)} bytes of words for {cells} cells")
    return np.frombuffer(data, "<u8").astype(np.uint64)


def _header(head: bytes) -> tuple[str, int, int]:
    try:
        header = json.loads(head)
    except (ValueError, RecursionError):
        header = None
    if isinstance(header, dict) and set(header) == {"run_id", "cells", "key_bytes"}:
        run_id, cells, key_bytes = header["run_id"], header["cells"], header["key_bytes"]
        if isinstance(run_id, str) and type(cells) is int and type(key_bytes) is int and min(cells, key_bytes) >= 0:
            return run_id, cells, key_bytes
    raise SparkMpcError("a stored release is damaged: its header does not fit its plan")


def _keys(data: bytes, columns: int) -> tuple[Group, ...]:
    try:
        read = json.loads(data)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, list) or not all(_is_key(key, columns) for key in read):
        raise SparkMpcError("a stored release is damaged: its keys do not fit its plan")
    return tuple(tuple(key) for key in read)


def _is_key(key: object, columns: int) -> bool:
    return isinstance(key, list) and len(key) == columns and all(isinstance(value, (int, str, bool)) for value in key)


@dataclass(frozen=True)
class Answers:
    """Released values and their accuracy as Arrow tables.

    Attributes:
        values: one row per group: its keys, and a column per aggregate (lists of bins for histograms, of labels for
            the most frequent values).
        accuracy: one row per group, aggregate and bin: keys, aggregate, bin (NULL but for histograms), value, stddev,
            lower, upper, confidence. Intervals cover the noise; not clamping, and not rows that bounding dropped. The
            value of a label in order is its rank, and has no interval: NULL.
    """

    values: pa.Table
    accuracy: pa.Table


def make_answers(plan: Plan | Derived, words: NDArray[np.uint64], confidence: float = 0.95) -> Answers:
    """Decode opened cells into values with intervals. Uses the plan and the opened cells, nothing else.

    Args:
        plan: what was opened; or what follows from a stored release.
        words: opened cells, shape (plan.length,); or those of the stored release.
        confidence: of the intervals, 0 < confidence < 1.
    """
    estimates = _estimates(plan, words, confidence) if isinstance(plan, Plan) else plan.estimates(words, confidence)
    keys = _key_columns(plan)
    values = {name: _values(estimate) for name, estimate in estimates.items()}
    accuracy = [_accuracy(keys, name, estimate, confidence) for name, estimate in estimates.items()]
    return Answers(pa.table({**keys, **values}), pa.concat_tables([_accuracy_schema(keys).empty_table(), *accuracy]))


def _estimates(plan: Plan, words: NDArray[np.uint64], confidence: float) -> dict[str, Estimate]:
    opened, schema = open_cells(plan, words, confidence), plan.query.schema
    return {aggregate.name: aggregate.estimate(schema, opened) for aggregate in plan.query.aggregates}


def open_cells(plan: Plan, words: NDArray[np.uint64], confidence: float) -> Opened:
    """Cells of a plan's vector as aggregates read them; the arguments are those of `make_answers`."""
    within = confidence if plan.query.hierarchy is None else _for_totals(plan, confidence)
    return Opened(len(plan.rows), lambda measure: _cells(plan, words, measure), plan.noise_term, within)


def _for_totals(plan: Plan, confidence: float) -> float:
    """The confidence at which a noisy cell's interval covers the consistent cells that are made of many, too."""
    noises = (Noise((NoiseTerm(part.noise, 1.0, plan.noise.copies),)) for part in plan.parts)
    return max(noise.confidence_of_mixtures(confidence) for noise in noises)


def _cells(plan: Plan, words: NDArray[np.uint64], measure: Measure) -> NDArray[np.int64] | NDArray[np.float64]:
    part = plan.part_of(measure)
    cells = words[part.offset : part.offset + part.cells].view(np.int64)
    if not measure.by_group:
        return cells
    by_row = cells.reshape(len(plan.rows), *measure.shape)
    return by_row if plan.query.hierarchy is None else plan.query.hierarchy.consistent(by_row)


def _key_columns(plan: Plan | Derived) -> dict[str, pa.Array]:
    if not plan.rows:
        return {name: pa.array([], pa.string()) for name in plan.query.by}
    columns = zip(*plan.rows, strict=True)
    return {name: pa.array(list(keys)) for name, keys in zip(plan.query.by, columns, strict=True)}


def _values(estimate: Estimate) -> pa.Array:
    """One value per group; a list where an aggregate has several, with their labels where it has any."""
    if estimate.labels is None or estimate.labels.ndim == 1:
        return pa.array(list(estimate.values), None if len(estimate.values) else pa.float64())
    if isinstance(estimate, Ranking):
        return pa.array(estimate.labels.tolist(), pa.list_(pa.string()))
    pairs = zip(estimate.labels.tolist(), estimate.values.tolist(), strict=True)
    struct = pa.struct([("label", pa.string()), ("value", pa.from_numpy_dtype(estimate.values.dtype))])
    rows = [[{"label": item, "value": value} for item, value in zip(*pair, strict=True)] for pair in pairs]
    return pa.array(rows, pa.list_(struct))


def _accuracy_schema(keys: Mapping[str, pa.Array]) -> pa.Schema:
    numbers = [(name, pa.float64()) for name in ("value", "stddev", "lower", "upper", "confidence")]
    names = [("aggregate", pa.string()), ("bin", pa.int32()), ("label", pa.string())]
    return pa.schema([*((column, values.type) for column, values in keys.items()), *names, *numbers])


def _accuracy(keys: Mapping[str, pa.Array], name: str, estimate: Estimate, confidence: float) -> pa.Table:
    groups, bins = estimate.values.shape[0], estimate.values.size // max(estimate.values.shape[0], 1)
    rows, is_list = groups * bins, estimate.values.ndim == 2
    spread = pa.array(np.repeat(np.arange(groups), bins))
    bin_column = np.tile(np.arange(bins, dtype=np.int32), groups)
    columns = [
        *(values.take(spread) for values in keys.values()),
        pa.array([name] * rows, pa.string()),
        pa.array(bin_column) if is_list else pa.nulls(rows, pa.int32()),
        _labels(estimate, rows),
        pa.array(estimate.values.astype(np.float64).ravel()),
        *(_ends(ends) for ends in (estimate.stddev, estimate.lower, estimate.upper)),
        pa.array(np.full(rows, confidence)),
    ]
    return pa.Table.from_arrays(columns, schema=_accuracy_schema(keys))


def _labels(estimate: Estimate, rows: int) -> pa.Array:
    if estimate.labels is None:
        return pa.nulls(rows, pa.string())
    return pa.array(np.broadcast_to(estimate.labels, estimate.values.shape).ravel(), pa.string())


def _ends(ends: NDArray[np.float64]) -> pa.Array:
    """Numbers of an error bar; NULL where there is none."""
    return pa.array(ends.ravel(), mask=np.isnan(ends.ravel()))


@dataclass(frozen=True, eq=False)
class Release:
    """What an analyst holds after a query: numbers with error bars, already paid for.

    Attributes:
        plan: what was asked, and at which price; or how it follows from a stored release.
        run_id: the run that opened it. An owner whose vector was resumed paid for it under an earlier run.
        price: what the query itself cost this owner's ledger, once; see `whole_price`.
        paid_before: whether it was answered from a stored release: nothing was charged this time.
        answers: values and accuracy as Arrow tables.
        df: keys and values, one row per group; an ordinary DataFrame over stored values, never recomputed.
        accuracy: per group, aggregate and bin: value, stddev, lower, upper, confidence.
        words: the opened cells that the answers were computed from, uint64; those of `plan`, or of the stored release
            that they follow from.
        chosen: bounds that were chosen privately, in words.
        choices: the releases that they were chosen from, before this one.
        synthetic: whether it is a dry run over synthetic rows, which no ledger paid for and which tells of nobody.
        notices: what else its reader has to know, a sentence each.
    """

    plan: Plan | Derived
    run_id: str
    price: Budget
    paid_before: bool
    answers: Answers
    df: DataFrame = field(repr=False)
    accuracy: DataFrame = field(repr=False)
    words: NDArray[np.uint64] = field(repr=False)
    chosen: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    choices: tuple[Release, ...] = field(default=(), repr=False)
    synthetic: bool = False
    notices: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, plan: Plan | Derived, stored: StoredRelease, spark: SparkSession, price: Budget, *, paid_before: bool
    ) -> Release:
        """The release of opened cells, its DataFrames in the caller's own session."""
        plan = stored.plan(plan) if isinstance(plan, Plan) else plan
        answers = make_answers(plan, stored.words)
        df, accuracy = spark.createDataFrame(answers.values), spark.createDataFrame(answers.accuracy)
        return cls(plan, stored.run_id, price, paid_before, answers, df, accuracy, stored.words)

    @property
    def whole_price(self) -> Budget:
        """What the release cost this owner's ledger, once, the choice of its bounds included."""
        return summed(((release.price, 1) for release in (*self.choices, self)), self.price)

    def show(self) -> None:
        """Print every value with its interval."""
        print(self)  # noqa: T201

    def toPandas(self) -> pd.DataFrame:
        """Keys and values as a pandas DataFrame, one row per group."""
        return self.answers.values.to_pandas()

    def at(self, confidence: float) -> pa.Table:
        """The accuracy table with intervals of another confidence; free, since it is computed from what was released.

        Args:
            confidence: of the intervals, 0 < confidence <= 1 - 1e-9.

        Raises:
            InvalidArgument: a confidence outside its range.
        """
        return make_answers(self.plan, self.words, confidence).accuracy

    def __str__(self) -> str:
        rows = _pretty_rows(self)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, self._footer(), *self.notices])

    def plot(self) -> Figure:
        """Draw every value with its interval: one panel per aggregate. Needs the extra `plot`.

        Returns:
            a matplotlib Figure: `savefig` writes it, and a notebook under `%matplotlib inline` shows it.

        Raises:
            InvalidArgument: matplotlib is not installed.
        """
        query = self.plan.query
        return plot_answers(self.answers.accuracy, query.by, self.plan.rows, query.aggregates, self._footer())

    def _repr_html_(self) -> str:
        table = html_table(self.answers.values, self.answers.accuracy, self.plan.query.by)
        return f"{table}<p>{escape(' '.join([self._footer(), *self.notices]))}</p>"

    def _footer(self) -> str:
        chosen = f" Chosen privately: {'; '.join(self.chosen.values())}." if self.chosen else ""
        covered = f"95% intervals cover the noise, not clamping or bounding.{chosen}"
        if self.synthetic:
            return f"SYNTHETIC ROWS: nothing here is about real data. {covered} Not paid: {self.whole_price}."
        return f"{covered} {self._paid()}, run {self.run_id[:12]}."

    def _paid(self) -> str:
        """What was paid this time, for the query and for the choice of its bounds."""
        if isinstance(self.plan, Derived):
            return f"free, from release {self.plan.number}" + (f": {self.plan.only}" if self.plan.only else "")
        unpaid = [release.price for release in (*self.choices, self) if not release.paid_before]
        if not unpaid:
            return "free, answered from the ledger"
        itself = "nothing" if self.paid_before else str(self.price)
        parts = f" in all, {itself} of it for the query itself" if self.choices else ""
        return f"paid {summed(((price, 1) for price in unpaid), self.price)}{parts}"


def _pretty_rows(release: Release) -> list[list[str]]:
    by, aggregates = list(release.plan.query.by), release.plan.query.aggregates
    columns = [*by, "aggregate", "bin", "label", "value", "lower", "upper"] if aggregates else by
    table = (release.answers.accuracy if aggregates else release.answers.values).select(columns).to_pydict()
    rows = zip(*(table[column] for column in columns), strict=True)
    return [columns, *([pretty(cell) for cell in row] for row in rows)]
