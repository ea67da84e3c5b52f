"""Doctor visits by coinsurance rate, with error bars, as a PNG."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

__all__ = ["save_picture"]


def save_picture(cells: pd.DataFrame, path: Path, *, subtitle: str) -> None:
    """Draw the released mean visits with their 95% intervals, and the pooled truth as hollow rings.

    Args:
        cells: key, value, lower, upper and truth of the mean visits, one row per coinsurance rate.
        path: the PNG file.
        subtitle: who asked, and at what price.
    """
    rates = [f"{key}%" for key in cells["key"]]
    reach = [cells["value"] - cells["lower"], cells["upper"] - cells["value"]]
    figure = Figure(figsize=(7, 4.2), dpi=144, layout="constrained")
    axes = figure.add_subplot()
    axes.bar(rates, cells["value"], width=0.6, color="#cfe0ee")
    axes.errorbar(rates, cells["value"], reach, fmt="o", color="#1f4e79", capsize=5, label="released, 95% interval")
    axes.plot(rates, cells["truth"], "o", mfc="none", mec="#c0392b", ms=11, ls="none", label="pooled truth (demo only)")
    axes.set_ylim(0, 1.3 * max(cells["upper"].max(), cells["truth"].max()))
    axes.set_xlabel("share of the bill that the patient pays (coinsurance)")
    axes.set_ylabel("doctor visits per person and year")
    axes.set_title(f"Cost sharing and doctor visits\n{subtitle}", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", ncols=2)
    figure.savefig(path, format="png")  # drawn by Agg: no display is needed
