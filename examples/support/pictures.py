"""Released numbers with their intervals as a PNG, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "stack"]


def draw(panels: Mapping[str, pd.DataFrame], path: Path, *, title: str) -> None:
    """Draw a row of panels: bars with 95% intervals, and the truth as hollow rings; say where, or why not.

    Args:
        panels: what a panel's numbers are -> key, value, lower, upper and truth, as an `Answer`'s cells have them.
        path: the PNG file.
        title: what was asked, and at what price.
    """
    if _without_matplotlib():
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(panels) + 1, 4), dpi=120, layout="constrained")
    for axes, (label, cells) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        reach = [cells["value"] - cells["lower"], cells["upper"] - cells["value"]]
        axes.bar(cells["key"], cells["value"], width=0.7, color="#cfe0ee")
        axes.errorbar(cells["key"], cells["value"], reach, fmt=".", color="#1f4e79", capsize=3, label="released, 95%")
        known = cells["counted" if "counted" in cells else "truth"]
        axes.plot(cells["key"], known, "o", mfc="none", mec="#c0392b", ms=8, label="truth (example only)")
        axes.set_title(label, loc="left", fontsize=10)
        axes.tick_params("x", labelrotation=90 if cells["key"].str.len().max() > 2 else 0)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path, title)


def stack(amounts: pd.DataFrame, path: Path, *, title: str, most: float) -> None:
    """Draw bars, a piece for each column, under the line that they cannot pass; say where, or why not.

    Args:
        amounts: a row for every bar.
        path: the PNG file.
        title: what was paid.
        most: the height of the line.
    """
    if _without_matplotlib():
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4), dpi=120, layout="constrained")
    axes, below = figure.subplots(), amounts.cumsum(axis=1) - amounts
    for asked, colour in zip(amounts, itertools.cycle(("#1f4e79", "#cfe0ee", "#7fa8c9", "#c0392b"))):
        axes.bar(amounts.index, amounts[asked], width=0.7, bottom=below[asked], color=colour, label=asked)
    axes.axhline(most, color="#c0392b", label="all that there is")
    axes.set_ylabel("epsilon")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes.tick_params("x", labelrotation=30)
    _save(figure, path, title)


def _without_matplotlib() -> bool:
    missing = importlib.util.find_spec("matplotlib") is None
    if missing:
        click.echo("No picture: matplotlib is not installed (pip install 'spark-mpc[plot]').")
    return missing


def _save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")  # drawn by Agg: no display is needed
    click.echo(f"Picture: {path}")
