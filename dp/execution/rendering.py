"""Released values as text and as an HTML table: every value with its error bar beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["html_table", "pretty"]

_SHOWN_GROUPS, _SHOWN_BINS = 100, 20
_ALIKE = 0.02  # ends of an interval whose distances from the value differ by less are shown as one


def pretty(cell: object) -> str:
    """A cell of a table: four digits, thousands apart, nothing for NULL."""
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.4g}" if abs(cell) < 1000 else f"{cell:,.0f}"


def html_table(values: pa.Table, accuracy: pa.Table, by: Sequence[str]) -> str:
    """One row per group: its keys, and every value with its error bar. Long tables and lists are cut, and say so.

    Args:
        values: of `Answers`: columns of keys, then one per aggregate.
        accuracy: of `Answers`.
        by: the columns of keys.
    """
    groups = values.num_rows
    keys = values.select(list(by)).slice(0, _SHOWN_GROUPS).to_pylist()
    cells = [_cells(accuracy, name) for name in values.column_names[len(by) :]]
    head = "".join(f"<th>{escape(name)}</th>" for name in values.column_names)
    shown = len(keys) if by else min(groups, 1)
    rows = "".join(_row(keys[i] if by else {}, [of_groups[i] for of_groups in cells]) for i in range(shown))
    more = f"<p>{groups - shown:,} more of {groups:,} groups: df and accuracy have them all.</p>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more if groups > shown else ''}"


def _cells(accuracy: pa.Table, aggregate: str) -> list[list[Mapping[str, object]]]:
    """The shown groups of an aggregate, each with all of its bins; groups stand one after another."""
    chosen = accuracy.filter(pc.equal(accuracy.column("aggregate"), aggregate))
    groups: list[list[Mapping[str, object]]] = []
    for row in _rows(chosen):
        if not row["bin"]:  # NULL, or the first bin of a list
            if len(groups) == _SHOWN_GROUPS:
                break
            groups.append([])
        groups[-1].append(row)
    return groups


def _rows(table: pa.Table) -> Iterator[Mapping[str, object]]:
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _row(key: Mapping[str, object], cells: Sequence[Sequence[Mapping[str, object]]]) -> str:
    names = "".join(f"<th>{escape(str(part))}</th>" for part in key.values())
    return f"<tr>{names}{''.join(f'<td>{_values(values)}</td>' for values in cells)}</tr>"


def _values(values: Sequence[Mapping[str, object]]) -> str:
    lines = [_value(value) for value in islice(values, _SHOWN_BINS)]
    if len(values) > _SHOWN_BINS:
        lines.append(f"... {len(values) - _SHOWN_BINS:,} more")
    return "<br>".join(lines)


def _value(row: Mapping[str, object]) -> str:
    if row["lower"] is None:  # a rank, which a list tells by its order
        return escape(str(row["label"]))
    label = f"{escape(str(row['label']))}: " if row["label"] is not None else ""
    value, lower, upper = (float(str(row[name])) for name in ("value", "lower", "upper"))
    below, above = value - lower, upper - value
    if abs(above - below) <= _ALIKE * max(above, below):
        bar = f"&plusmn; {pretty(max(above, below))}"
    else:
        bar = f"({pretty(lower)} to {pretty(upper)})"
    return f"{label}{pretty(value)} <small>{bar}</small>"
