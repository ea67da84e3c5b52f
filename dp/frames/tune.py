"""`dp.tune`: what choices of bounds, clamps and budgets would do to a query, on rows that are PUBLIC.

Nothing of the sample is protected, and no ledger is touched: exact numbers of it are computed, shown and compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from dp.errors import InvalidArgument
from dp.exact import Exact, rational
from dp.execution.plots import new_figure, plain, tidy
from dp.frames.declared import declare
from dp.frames.frame import PrivateFrame, SampleFrame, SyntheticFrame, UnprotectedFrame
from dp.frames.grouped import PrivateQuery
from dp.frames.samples import Cells, Sample, estimates
from dp.frames.units import Unit
from dp.planning.aggregates import Estimate
from dp.planning.counts import TruncatedShare
from dp.planning.facts import DEFAULT_MAX_UNITS, Key
from dp.planning.plan import Plan, guarantee, make_plan
from dp.planning.query import Query

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Outcome", "Tuning", "tune"]

Reals = NDArray[np.float64]
Choice = Mapping[str, object]

_BUDGET = ("epsilon", "delta", "rho")
_NUMBERS = ("bias", "noise", "rmse", "relative_error", "rows_dropped", "units_truncated", "groups")


@dataclass(frozen=True)
class Outcome:
    """What one choice does to one aggregate. Errors are medians over the groups that have rows.

    Attributes:
        choice: the parameters.
        aggregate: its name.
        bias: how far bounding and clamping move the value.
        noise: standard deviation of the noise.
        rmse: both together, as a root mean square.
        relative_error: that over the exact value; of groups where it is not zero.
        rows_dropped: the share of the groups' rows that bounding drops.
        units_truncated: the share of units from which it drops any.
        groups: how many are released; where keys are private, how many are expected to be.
    """

    choice: Choice
    aggregate: str
    bias: float
    noise: float
    rmse: float
    relative_error: float
    rows_dropped: float
    units_truncated: float
    groups: float


@dataclass(frozen=True)
class Tuning:
    """Choices compared on a PUBLIC sample; print it, plot it, or take `table` and `best`.

    Attributes:
        outcomes: one for each choice and aggregate, in the order of the choices.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row per choice and aggregate: the choice's parameters, then the numbers of `Outcome`."""
        rows = [{**o.choice, **{k: v for k, v in vars(o).items() if k != "choice"}} for o in self.outcomes]
        return pd.DataFrame(rows)

    @property
    def best(self) -> Choice:
        """The choice with the least error: the geometric mean of all aggregates' errors, over the groups released.

        Of two choices that release different numbers of groups, twice the groups outweigh twice the error.
        """
        return min(self._choices, key=self._score)

    def plot(self) -> Figure:
        """Draw bias, noise and both together for every choice: one panel per aggregate. Needs the extra `plot`.

        Raises:
            InvalidArgument: matplotlib is not installed.
        """
        choices, names = self._choices, list(dict.fromkeys(o.aggregate for o in self.outcomes))
        figure = new_figure(max(6.0, 2.5 + 0.5 * len(choices)), 1.0 + 2.6 * len(names))
        for axes, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
            of_name = [o for o in self.outcomes if o.aggregate == name]
            places = [choices.index(o.choice) for o in of_name]
            for what, style in (("bias", "s--"), ("noise", "^--"), ("rmse", "o-")):
                values = [max(getattr(o, what), 0.0) or math.nan for o in of_name]  # a log scale has no zero
                axes.plot(places, values, style, label="total" if what == "rmse" else what)
            axes.axvline(choices.index(self.best), color="0.85", linewidth=8, zorder=0)
            axes.set_yscale("log")
            self._name_choices(axes)
            axes.set_title(f"{plain(name)}: error of the median group", loc="left", fontsize=10)
            axes.legend(frameon=False, fontsize=8)
            tidy(axes)
        return figure

    def _name_choices(self, axes: Axes) -> None:
        """Below the axis: values, where one parameter was tried; else names and values."""
        choices = self._choices
        names = list(dict.fromkeys(name for choice in choices for name in choice))
        if len(names) == 1:
            axes.set_xticks(range(len(choices)), [plain(choice[names[0]]) for choice in choices])
            axes.set_xlabel(plain(names[0]))
        else:
            axes.set_xticks(range(len(choices)), [plain(self._named(c)) for c in choices], rotation=30, ha="right")

    def __str__(self) -> str:
        head, *rows = self._cells()
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in (head, *rows)]
        return "\n".join([*lines, f"best: {self._named(self.best)}. {_WARNING}"])

    def _repr_html_(self) -> str:
        head, *rows = self._cells()
        lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
        table = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>" + "".join(
            f"<tr>{line}</tr>" for line in lines
        )
        return f"<table>{table}</table><p>best: {escape(self._named(self.best))}. {escape(_WARNING)}</p>"

    @property
    def _choices(self) -> list[Choice]:
        found: list[Choice] = []
        for outcome in self.outcomes:
            if outcome.choice not in found:
                found.append(outcome.choice)
        return found

    def _score(self, choice: Choice) -> float:
        of_choice = [o for o in self.outcomes if o.choice == choice]
        errors = [math.log(max(o.rmse, 1e-300)) for o in of_choice]
        return sum(errors) / len(errors) - math.log(max(of_choice[0].groups, 1e-300))

    def _named(self, choice: Choice) -> str:
        return ", ".join(f"{name}={value}" for name, value in choice.items())

    def _cells(self) -> Iterator[list[str]]:
        """The printed table, its head first."""
        names = list(dict.fromkeys(name for o in self.outcomes for name in o.choice))
        yield [*names, "aggregate", *(name.replace("_", " ") for name in _NUMBERS)]
        for o in self.outcomes:
            shares = (f"{share:.1%}" for share in (o.relative_error, o.rows_dropped, o.units_truncated))
            errors = (f"{error:,.4g}" for error in (o.bias, o.noise, o.rmse))
            chosen = (str(o.choice.get(name, "")) for name in names)
            yield [*chosen, o.aggregate, *errors, *shares, f"{o.groups:,.4g}"]


_WARNING = "Exact numbers of a public sample: nothing here is protected."


def tune(
    sample: DataFrame | SyntheticFrame,
    query: Callable[..., PrivateQuery],
    choices: Mapping[str, Sequence[object]] | Sequence[Choice],
    *,
    epsilon: Exact | None = None,
    delta: Exact = 0,
    rho: Exact | None = None,
    unit: Unit | None = None,
    bounds: Mapping[str, tuple[Exact, Exact]] | None = None,
    keys: Mapping[str, Sequence[Key]] | None = None,
    max_units: int = DEFAULT_MAX_UNITS,
    sample_share: Exact = 1,
) -> Tuning:
    """Compare parameters of a query on rows that are PUBLIC, or that were released already.

    NOTHING OF THE SAMPLE IS PROTECTED: exact numbers of it are computed and shown, and no ledger is charged. Giving it
    private rows publishes them; so a `PrivateFrame` is refused. Last year's open data, a release's own `df`, or made-up
    rows that look like the real ones are what it is for.

    Args:
        sample: an ordinary DataFrame that the caller declares to be PUBLIC; or a synthetic frame.
        query: makes the query of a frame and of one choice's parameters, given by name, as in
            `lambda frame, **bounds: frame.groupBy("ward", keys=wards, **bounds).agg(dp.count())`.
        choices: parameter -> values, of which all combinations are tried; or a list of choices. The names "epsilon",
            "delta" and "rho" are the release's budget, and not handed to `query`.
        epsilon: of the release, where a choice names none.
        delta: likewise.
        rho: likewise, in place of epsilon.
        unit: of the sample's rows, as `dp.private` takes it.
        bounds: declared ones; see `dp.private`.
        keys: declared ones.
        max_units: declared one.
        sample_share: the share of all units that the sample holds, 0 < share <= 1. Noise is that of the whole table, so
            what is counted is scaled up.

    Raises:
        InvalidArgument: private rows, a query of other rows than the given frame's, no choices, no unit, no budget.
    """
    frame = _unprotected(sample, unit=unit, bounds=bounds, keys=keys, max_units=max_units)
    share = rational(sample_share, "sample_share")
    if not 0 < share <= 1:
        raise InvalidArgument("sample_share", sample_share, "give the share of units that the sample holds, 0..1")
    bench = _Bench(frame, query, share, {"epsilon": epsilon, "delta": delta, "rho": rho})
    return Tuning(tuple(outcome for choice in _listed(choices) for outcome in bench.outcomes(choice)))


def _unprotected(sample: object, *, unit: Unit | None, **declared: Any) -> UnprotectedFrame:
    if isinstance(sample, UnprotectedFrame):
        return sample
    if isinstance(sample, PrivateFrame) or not isinstance(sample, DataFrame):
        remedy = "exact numbers of a sample are shown: give an ordinary DataFrame of PUBLIC rows, or frame.synthetic()"
        raise InvalidArgument("sample", type(sample).__name__, remedy)
    if unit is None:
        raise InvalidArgument("unit", None, "name the columns that identify a unit of the sample")
    rows, facts = declare(sample, unit=unit, null_units="drop", **declared)
    spark = sample.sparkSession
    return SampleFrame(
        spark, rows, facts, "public sample", None, int(spark.conf.get("spark.sql.shuffle.partitions") or 2)
    )


def _listed(choices: Mapping[str, Sequence[object]] | Sequence[Choice]) -> list[Choice]:
    if isinstance(choices, Mapping):
        choices = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    if not choices or not all(isinstance(choice, Mapping) and choice for choice in choices):
        remedy = 'give values by parameter, as in {"max_total_rows": [1, 2, 4]}, or a list of choices'
        raise InvalidArgument("choices", str(choices)[:100], remedy)
    return [MappingProxyType(dict(choice)) for choice in choices]


class _Bench:
    """Runs choices on one sample; cells that several choices have in common are counted once."""

    def __init__(
        self, frame: UnprotectedFrame, query: Callable[..., PrivateQuery], share: Fraction, budget: Mapping[str, Any]
    ) -> None:
        self._frame, self._query, self._share, self._budget = frame, query, share, budget
        self._exact: dict[object, tuple[Mapping[str, Reals], Cells]] = {}
        self._cells: dict[object, Cells] = {}

    def outcomes(self, choice: Choice) -> Iterator[Outcome]:
        """One for each aggregate of the query that is about the data, and not about bounding."""
        parameters = {name: value for name, value in choice.items() if name not in _BUDGET}
        query, frame = self._checked(self._query(self._frame, **parameters))
        plan = make_plan(query, guarantee(**self._budget_of(choice)))
        if not plan.parts:
            raise InvalidArgument("query", "no aggregates", "there is no error to compare: add dp.count()")
        yield from self._compared(choice, Sample(frame, query, self._share), plan)

    def _budget_of(self, choice: Choice) -> dict[str, Any]:
        given: dict[str, Any] = dict(self._budget)
        if choice.keys() & {"epsilon", "rho"}:  # one of them replaces the other
            given |= {"epsilon": None, "rho": None}
        return given | {name: value for name, value in choice.items() if name in _BUDGET}

    def _checked(self, asked: object) -> tuple[Query, UnprotectedFrame]:
        """A choice's query and its rows, which must be the sample's."""
        if not isinstance(asked, PrivateQuery):
            remedy = "it returns frame.groupBy(...).agg(...), with bounds that are given and not chosen privately"
            raise InvalidArgument("query", type(asked).__name__, remedy)
        frame = asked.frame
        if not isinstance(frame, UnprotectedFrame) or type(frame) is not type(self._frame):
            remedy = "ask of the frame that it is given: exact numbers are computed, and those rows may be private"
            raise InvalidArgument("query", type(frame).__name__, remedy)
        return asked.query, frame

    def _compared(self, choice: Choice, sample: Sample, plan: Plan) -> Iterator[Outcome]:
        query, plan = plan.query, sample.located(plan)
        about = (query.filters, query.by, query.keys, query.totals)
        plainly = tuple(aggregate.weight(1) for aggregate in query.aggregates)
        values, exact = self._once(self._exact, (about, plainly), sample.exact)
        measures = tuple(part.measure for part in plan.parts)
        cells = self._once(self._cells, (about, query.bounds, measures), lambda: sample.cells(plan))
        kept = _kept(plan, cells)
        about_bounds = {aggregate.name for aggregate in query.aggregates if isinstance(aggregate, TruncatedShare)}
        for name, estimate in estimates(plan, cells).items():
            if name not in about_bounds:
                yield Outcome(
                    choice,
                    name,
                    **_errors(estimate, values[name], kept * (exact.rows > 0)),
                    rows_dropped=1 - cells.all_rows / max(exact.all_rows, 1.0),
                    units_truncated=cells.truncated,
                    groups=float(kept.sum()),
                )

    @staticmethod
    def _once(done: dict[object, Any], key: object, count: Callable[[], Any]) -> Any:
        if key not in done:
            done[key] = count()
        return done[key]


def _kept(plan: Plan, cells: Cells) -> Reals:
    """For every row of the answer, the probability that it is released."""
    if plan.selection is None:
        return np.ones(len(plan.rows))
    return np.array([plan.selection.keep_probability(int(units)) for units in cells.units])


def _errors(estimate: Estimate, values: Reals, weights: Reals) -> dict[str, float]:
    """Medians over groups, and over the bins of lists, of an aggregate's errors against exact values.

    Args:
        estimate: of cells without noise, with the accuracy that noise leaves them; shape (groups,) or (groups, bins).
        values: exact ones, in the same shape.
        weights: of the groups.
    """
    counted = np.broadcast_to(weights.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
    bias, size = np.abs(estimate.values - values), np.abs(values)
    counted = counted * np.isfinite(bias)  # a group may have rows and no value in any of them
    total = np.hypot(bias, estimate.stddev)
    relative = np.divide(total, size, out=np.zeros_like(total), where=size > 0)
    return {
        "bias": _median(bias, counted),
        "noise": _median(estimate.stddev, counted),
        "rmse": _median(total, counted),
        "relative_error": _median(relative, counted * (size > 0)),
    }


def _median(values: Reals, weights: Reals) -> float:
    """The weighted median; 0 where nothing has any weight."""
    order = np.argsort(values, axis=None)
    below = np.cumsum(weights.ravel()[order])
    if below.size == 0 or not below[-1] > 0:
        return 0.0
    return float(values.ravel()[order][np.searchsorted(below, below[-1] / 2)])
