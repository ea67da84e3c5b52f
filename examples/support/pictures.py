"""Released numbers with their intervals as a PNG, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import click
import pandas as pd

__all__ = ["draw"]


def draw(panels: Mapping[str, pd.DataFrame], path: Path, *, title: str) -> None:
    """Draw a row of panels: bars with 95% intervals, and the truth as hollow rings; say where, or why not.

    Args:
        panels: what a panel's numbers are -> key, value, lower, upper and truth, as an `Answer`'s cells have them.
        path: the PNG file.
        title: what was asked, and at what price.
    """
    if importlib.util.find_spec("matplotlib") is None:
        click.echo("No picture: matplotlib is not installed (pip install 'spark-mpc[plot]').")
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
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")  # drawn by Agg: no display is needed
    click.echo(f"Picture: {path}")
