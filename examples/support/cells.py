"""Released cells as text, beside the pooled truth, which only a demo can know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from spark_mpc import dp

__all__ = ["beside_truth", "cells_of", "matrix_text", "table_text", "tidy"]


def cells_of(release: dp.Release, *, key: str, bins: Sequence[str] = ()) -> pd.DataFrame:
    """Every released number as one row: key, name, value, stddev, lower, upper.

    Args:
        release: grouped by one column.
        key: that column.
        bins: names of a histogram's bins, in order; its cells are named so.
    """
    cells = release.answers.accuracy.to_pandas()
    names = [name if pd.isna(i) else bins[int(i)] for name, i in zip(cells["aggregate"], cells["bin"], strict=True)]
    cells = cells.assign(name=names, key=cells[key].astype(str))
    return cells[["key", "name", "value", "stddev", "lower", "upper"]]


def tidy(wide: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of a table that has a row per key and a column per number: key, name, truth."""
    named = wide.rename_axis(index="key", columns=None).reset_index()
    return named.melt("key", var_name="name", value_name="truth").astype({"key": str, "name": str, "truth": float})


def beside_truth(cells: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Every released cell with the pooled truth of the same key and name."""
    return cells.merge(truth, on=["key", "name"], how="left", validate="one_to_one")


def table_text(cells: pd.DataFrame, *, key: str, decimals: Mapping[str, int]) -> str:
    """A block of lines for every number that was asked: value, interval, truth and expected error by key.

    Args:
        cells: as `beside_truth` gives them; further columns, such as "bounded truth", are shown as they are named.
        key: what the keys are called.
        decimals: name -> decimals, where they are not zero.
    """
    blocks = cells.groupby("name", sort=False)
    return "\n\n".join(_block(str(name), block, key, decimals.get(str(name), 0)) for name, block in blocks)


def _block(name: str, block: pd.DataFrame, key: str, decimals: int) -> str:
    shown = block.select_dtypes("number").map(lambda value: f"{value:,.{decimals}f}")
    lines = pd.DataFrame(
        {
            key: block["key"],
            "released": shown["value"],
            "95% interval": shown["lower"] + " to " + shown["upper"],
            "expected error (1 sd)": "±" + shown["stddev"],
            "pooled truth": shown["truth"],
            **shown.drop(columns=["value", "stddev", "lower", "upper", "truth"]),
        }
    )
    return f"{name.replace('_', ' ')}\n{lines.to_string(index=False)}"


def matrix_text(cells: pd.DataFrame, *, key: str, truth: str = "truth") -> str:
    """One line per key and one column per name: the released value, and in brackets a column of truths."""
    text = [f"{value:,.0f} ({known:,.0f})" for value, known in zip(cells["value"], cells[truth], strict=True)]
    wide = cells.assign(text=text).pivot(index="key", columns="name", values="text")
    ordered = wide.loc[cells["key"].unique(), cells["name"].unique()]
    return str(ordered.rename_axis(index=key, columns=None).reset_index().to_string(index=False))
