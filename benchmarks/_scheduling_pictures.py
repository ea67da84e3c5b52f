"""Pictures and tables of what the benchmark printed: `python -m benchmarks._scheduling_pictures FILE DIRECTORY`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["main"]

Record = dict[str, Any]

_CASES = ("single block, basic", "single block, Renyi", "many blocks, basic", "many blocks, Renyi")
_KEPT = "round-robin, shares kept"
_COLOURS = {"fcfs": "#7f7f7f", "round-robin": "#c0a020", _KEPT: "#5a8f3c", "dpf": "#1f4e79", "dpack": "#c0392b"}
_NAMES = {"fcfs": "first come first served", "round-robin": "round robin", "dpf": "DPF", "dpack": "DPack"}
_LABELS = {**_NAMES, _KEPT: "round robin, shares kept"}


@click.command()
@click.argument("records", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def main(records: Path, directory: Path) -> None:
    """Draw the RECORDS of one run into DIRECTORY, as schedulers-*.png, and print its tables."""
    read = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    directory.mkdir(parents=True, exist_ok=True)
    for name, figure in {"granted": _granted(read), "load": _loads(read), "pass": _passes(read)}.items():
        figure.savefig(directory / f"schedulers-{name}.png", format="png")
    click.echo("\n\n".join(_table(read, case) for case in dict.fromkeys(record["case"] for record in read)))


def _table(records: Sequence[Record], case: str) -> str:
    """The records of one case, with the columns that it has, as a table of Markdown."""
    rows = [{column: cell(r) for column, cell in _COLUMNS.items()} for r in records if r["case"] == case]
    columns = [column for column in _COLUMNS if any(row[column] for row in rows)]
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join([f"{case}:", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _spread(record: Record) -> str:
    spread = f" ± {record['stderr']} ({record['least']:,} to {record['most']:,})" if "stderr" in record else ""
    return f"{record['granted']:,}{spread}"


def _over_dpf(record: Record) -> str:
    fields = ("least_over_dpf", "over_dpf", "most_over_dpf")
    return ", ".join(str(record[field]) for field in fields) if fields[0] in record else ""


def _plain(name: str) -> Callable[[Record], str]:
    return lambda record: str(record.get(name, ""))


def _granted(records: Sequence[Record]) -> Figure:
    """Claims granted over N, a panel a case."""
    figure, panels = _figure(2, 2, (10.5, 7.5))
    for axes, case in zip(panels, _CASES, strict=True):
        of_case = [record for record in records if record["case"] == case]
        for name in ("round-robin", _KEPT, "dpf", "dpack"):
            _draw_by_n(axes, [r for r in of_case if _is_by_arrivals(r, name)], name)
        for record in of_case:
            if record["scheduler"] == "fcfs":
                axes.axhline(record["granted"], linestyle="--", **_style("fcfs"))
        published = [r for r in of_case if r.get("published") and _is_by_arrivals(r, "dpf")]
        heights = [r["published"] for r in published]
        axes.plot([_n(r) for r in published], heights, "o", mfc="none", mec="black", ms=9, label="DPF as published")
        _finish(axes, case, "N: claims that unlock a block", "claims granted")
    return figure


def _draw_by_n(axes: Axes, records: Sequence[Record], name: str) -> None:
    if records:
        drawn = sorted(records, key=_n)
        # DPack lies on DPF in many places: squares without a line show both
        style = _style(name) | {"fmt": "s" if name == "dpack" else ".-"}
        axes.errorbar([_n(r) for r in drawn], [r["granted"] for r in drawn], [r["stderr"] for r in drawn], **style)


def _loads(records: Sequence[Record]) -> Figure:
    """Claims granted in one pass, over how much more is asked than there is."""
    figure, panels = _figure(1, 2, (10.5, 4.0))
    for axes, composition in zip(panels, ("basic", "Renyi"), strict=True):
        for name in ("fcfs", "dpf", "dpack"):
            drawn = [r for r in records if r["case"] == f"one pass, {composition}" and r["scheduler"] == name]
            heights = [r["granted"] / r["claims"] for r in drawn]
            axes.plot([r["load"] for r in drawn], heights, "o-", **_style(name))
        axes.set_xscale("log")
        axes.set_xticks([1.5, 2, 5, 20], ["1.5", "2", "5", "20"])
        axes.minorticks_off()
        _finish(
            axes, f"one pass, {composition}", "asked / available, of the median block", "part of the claims granted"
        )
    return figure


def _passes(records: Sequence[Record]) -> Figure:
    """Seconds of one pass over claims."""
    figure, panels = _figure(1, 2, (10.5, 4.0))
    for axes, composition in zip(panels, ("basic", "Renyi"), strict=True):
        for name in _NAMES:
            drawn = [r for r in records if r["case"] == f"pass, {composition}" and r["scheduler"] == name]
            axes.loglog([r["claims"] for r in drawn], [r["seconds"] for r in drawn], "o-", **_style(name))
        _finish(axes, f"a pass over 1,000 blocks, {composition}", "waiting claims", "seconds")
    return figure


def _figure(rows: int, columns: int, inches: tuple[float, float]) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=inches, dpi=110, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _n(record: Record) -> int:
    return int(record["unlocking"].removeprefix("arrivals="))


def _is_by_arrivals(record: Record, name: str) -> bool:
    return bool(record["scheduler"] == name and record["unlocking"].startswith("arrivals="))


def _style(name: str) -> dict[str, Any]:
    return {"color": _COLOURS[name], "label": _LABELS[name]}


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


_COLUMNS: dict[str, Callable[[Record], str]] = {
    "scheduler": _plain("scheduler"),
    "unlocking": _plain("unlocking"),
    "load": _plain("load"),
    "claims": _plain("claims"),
    "published": _plain("published"),
    "granted": _spread,
    "over DPF: least, mean, most": _over_dpf,
    "seeds below one": _plain("seeds_below_one"),
    "seeds": _plain("seeds"),
    "seconds": _plain("seconds"),
    "processor seconds": _plain("cpu_seconds"),
}

if __name__ == "__main__":
    main(prog_name="python -m benchmarks._scheduling_pictures")
