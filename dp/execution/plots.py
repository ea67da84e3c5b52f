"""Pictures of released values, with matplotlib: one panel per aggregate, every value with its interval.

matplotlib is the optional extra `plot`; nothing else needs it. Figures are made without pyplot: no window opens, no
backend is chosen, and nothing is kept in a global list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dp.errors import InvalidArgument
from dp.planning.aggregates import Aggregate
from dp.planning.choices import MostFrequent
from dp.planning.counts import Count, CountDistinct, CountUnits, TopK
from dp.planning.facts import Key
from dp.planning.quantiles import Quantiles
from dp.planning.sums import Sum, UnitSum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["new_figure", "plain", "plot_answers", "tidy"]

Reals = NDArray[np.float64]

_MOST_NAMED = 40  # groups that are named one by one; more are drawn as a line with a band
_MOST_LINES = 8  # lists of values that are drawn as lines of one panel; more are drawn as a map
_MOST_RANKED = 30
_LABELS = 10
_LETTERS_AN_INCH = 14
_LONGEST_LABEL = 24
_BAR, _INK = "#cfe0ee", "#1f4e79"


@dataclass(frozen=True)
class _Panel:
    """One aggregate's released values; arrays of shape (groups, bins), with one bin where there is no list.

    Attributes:
        aggregate: what was asked.
        by: what the groups are groups of.
        groups: their names.
        values: released.
        lower: lower ends of intervals.
        upper: upper ends.
        labels: of values, where they have any, in the same shape.
    """

    aggregate: Aggregate
    by: str
    groups: tuple[str, ...]
    values: Reals
    lower: Reals
    upper: Reals
    labels: NDArray[np.object_] | None

    @property
    def reach(self) -> Reals:
        """Error bars, shape (2, groups, bins)."""
        return np.maximum(np.stack([self.values - self.lower, self.upper - self.values]), 0)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches.

    Raises:
        InvalidArgument: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        remedy = "matplotlib is not installed: install the extra `plot`, as in spark-mpc[plot]"
        raise InvalidArgument("plot", None, remedy) from None
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def plain(text: object) -> str:
    """A key or name as a picture shows it: one short line, and never read as a formula."""
    line = " ".join(str(text).split())
    short = line if len(line) <= _LONGEST_LABEL else f"{line[: _LONGEST_LABEL - 1]}…"
    return short.replace("$", r"\$")


def tidy(axes: Axes) -> None:
    """Leave out the frame's upper and right line."""
    axes.spines[["top", "right"]].set_visible(False)


def plot_answers(
    accuracy: pa.Table,
    by: Sequence[str],
    keys: Sequence[tuple[Key | None, ...]],
    aggregates: Sequence[Aggregate],
    caption: str,
) -> Figure:
    """Draw every aggregate in a panel of its own.

    Args:
        accuracy: of `Answers`: group by group, and bin by bin where an aggregate is a list.
        by: grouping columns.
        keys: of the groups, in the table's order; NULL for what was totalled over.
        aggregates: of the query.
        caption: stands above all panels.

    Raises:
        InvalidArgument: matplotlib is not installed.
    """
    panels = max(len(aggregates), 1)
    named = min(len(keys), _MOST_NAMED)
    width = max(6.0, 2.5 + 0.28 * named)
    figure = new_figure(width, 0.8 + 3.0 * panels)
    above = "\n".join(wrap(caption.replace("$", r"\$"), int(_LETTERS_AN_INCH * width)))
    figure.suptitle(above, fontsize=9, x=0.01, ha="left")
    places = figure.subplots(panels, 1, squeeze=False)[:, 0]
    if not aggregates or not keys:
        for axes in places:
            _say(axes, f"{len(keys)} groups" if keys else "no group was named")
        return figure
    for axes, aggregate in zip(places, aggregates, strict=True):
        panel = _panel(accuracy, by, keys, aggregate)
        _DRAWN.get(type(aggregate), _points if panel.values.shape[1] == 1 else _listed)(axes, panel)
        axes.set_title(plain(aggregate.name), loc="left", fontsize=10)
        tidy(axes)
    return figure


def _panel(
    accuracy: pa.Table, by: Sequence[str], keys: Sequence[tuple[Key | None, ...]], aggregate: Aggregate
) -> _Panel:
    rows = accuracy.filter(pc.equal(accuracy.column("aggregate"), aggregate.name))

    def column(name: str) -> Any:
        return rows.column(name).to_numpy(zero_copy_only=False).reshape(len(keys), -1)

    labels = None if rows.column("label").null_count else column("label")
    names = tuple(plain(", ".join(str(part) for part in key if part is not None) or "all") for key in keys)
    return _Panel(aggregate, plain(", ".join(by)), names, column("value"), column("lower"), column("upper"), labels)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()


def _name_groups(axes: Axes, panel: _Panel) -> None:
    """Names below the axis: all of a few groups, some of many."""
    groups = len(panel.groups)
    step = 1 if groups <= _MOST_NAMED else -(-groups // _LABELS)
    shown = range(0, groups, step)
    long = groups > _LABELS or any(len(panel.groups[i]) > 6 for i in shown)
    axes.set_xticks(list(shown), [panel.groups[i] for i in shown], rotation=90 if long else 0)
    axes.set_xlim(-0.6, groups - 0.4)
    axes.set_xlabel(panel.by)


def _aside(index: int, of: int) -> float:
    """How far to the side a bar stands, so that those of one place are seen beside each other."""
    return 0.5 * ((index + 0.5) / of - 0.5)


def _bars(axes: Axes, panel: _Panel) -> None:
    """What adds up is drawn from zero."""
    if len(panel.groups) <= _MOST_NAMED:
        axes.bar(range(len(panel.groups)), panel.values[:, 0], width=0.7, color=_BAR)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    _points(axes, panel)


def _points(axes: Axes, panel: _Panel) -> None:
    positions, values = range(len(panel.groups)), panel.values[:, 0]
    if len(panel.groups) <= _MOST_NAMED:
        axes.errorbar(positions, values, panel.reach[:, :, 0], fmt="o", markersize=4, capsize=3, color=_INK)
    else:
        axes.fill_between(positions, panel.lower[:, 0], panel.upper[:, 0], color=_BAR, linewidth=0)
        axes.plot(positions, values, ".", markersize=3, color=_INK)
    _name_groups(axes, panel)


def _listed(axes: Axes, panel: _Panel) -> None:
    """Values by bin or coordinate: a step line per group, or a map of many groups."""
    bins = panel.values.shape[1]
    if len(panel.groups) > _MOST_LINES:
        image = axes.imshow(panel.values, aspect="auto", interpolation="nearest", cmap="Blues")
        axes.figure.colorbar(image, ax=axes)
        step = -(-len(panel.groups) // _LABELS)
        axes.set_yticks(range(0, len(panel.groups), step), panel.groups[::step])
    else:
        for position, name in enumerate(panel.groups):
            colour, aside = f"C{position}", _aside(position, len(panel.groups))
            axes.stairs(
                panel.values[position], np.arange(bins + 1) - 0.5, baseline=None, color=colour, label=f" {name}"
            )
            reach = panel.reach[:, position]
            axes.errorbar(np.arange(bins) + aside, panel.values[position], reach, fmt="none", ecolor=colour, capsize=2)
        if panel.by:
            axes.legend(title=panel.by, frameon=False, fontsize=8)
    names = _bin_names(panel)
    step = -(-bins // _MOST_NAMED)
    axes.set_xticks(range(0, bins, step), names[::step], rotation=90 if max(map(len, names)) > 4 else 0)


def _bin_names(panel: _Panel) -> list[str]:
    edges = getattr(panel.aggregate, "edges", None)
    columns = getattr(panel.aggregate, "columns", ())
    bins = panel.values.shape[1]
    if edges is not None:
        return [f"{float(edge):g} …" for edge in edges[:-1]]
    return [plain(name) for name in columns] if len(columns) == bins else [str(i) for i in range(bins)]


def _ranges(axes: Axes, panel: _Panel) -> None:
    """Quantiles: from the lowest rank to the highest, each rank with its interval."""
    positions, values = np.arange(len(panel.groups)), panel.values
    few = len(panel.groups) <= _MOST_NAMED
    if few:
        axes.vlines(positions, values.min(axis=1), values.max(axis=1), color=_BAR, linewidth=8)
    else:
        axes.fill_between(positions, values.min(axis=1), values.max(axis=1), color=_BAR, linewidth=0)
    for index, rank in enumerate(getattr(panel.aggregate, "ranks", ())):
        reach = panel.reach[:, :, index] if few else None
        at, label = positions + few * _aside(index, values.shape[1]), f" rank {float(rank):g}"
        axes.errorbar(at, values[:, index], reach, fmt="o", markersize=4 if few else 2, capsize=2, label=label)
    if values.shape[1] > 1:
        axes.legend(fontsize=8, ncols=min(values.shape[1], 5))
    _name_groups(axes, panel)


def _ranked(axes: Axes, panel: _Panel) -> None:
    """The most frequent values, group after group, from above; a bar for each."""
    names = [
        plain(f"{group}: {label}" if panel.by else label)
        for group, labels in zip(panel.groups, () if panel.labels is None else panel.labels, strict=False)
        for label in labels
    ][:_MOST_RANKED]
    values, reach = panel.values.ravel(), panel.reach.reshape(2, -1)
    shown = len(names)
    axes.barh(range(shown), values[:shown], xerr=reach[:, :shown], color=_BAR, ecolor=_INK, capsize=2)
    axes.set_yticks(range(shown), names, fontsize=8)
    axes.invert_yaxis()
    if shown < values.size:
        axes.set_xlabel(f"the first {shown} of {values.size} values")


def _in_order(axes: Axes, panel: _Panel) -> None:
    """Labels without numbers: a line of text for each group."""
    labels = () if panel.labels is None else panel.labels
    lines = [
        f"{group}: {', '.join(map(plain, ranked[:_LABELS]))}{', …' if len(ranked) > _LABELS else ''}"
        for group, ranked in zip(panel.groups, labels, strict=False)
    ]
    more = [f"{len(lines) - _LABELS} more groups"] if len(lines) > _LABELS else []
    _say(axes, "\n".join([*lines[:_LABELS], *more]))


_DRAWN: Mapping[type[Aggregate], Callable[[Axes, _Panel], None]] = MappingProxyType(
    {
        **dict.fromkeys((Count, CountUnits, CountDistinct, Sum, UnitSum), _bars),
        Quantiles: _ranges,
        TopK: _ranked,
        MostFrequent: _in_order,
    }
)
"""Aggregates with a picture of their own; others are points, or lists by bin."""
