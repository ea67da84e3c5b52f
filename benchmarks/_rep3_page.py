"""The page of the benchmark `rep3`, written from what a whole run printed, so that no figure is typed by hand:

python -m benchmarks rep3 > rep3.json; python -m benchmarks._rep3_page rep3.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import click

from benchmarks.peers.three_cases import CASES

__all__ = ["KEPT", "PAGE", "main", "page"]

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-rep3.md"
KEPT = PAGE.with_suffix(".json")
"""The records that the page is made of."""

Record = dict[str, Any]

_TIMES_SPU = {"multiply": 3.0, "compare": 6.0, "equality": 3.0, "sort": 6.0, "matmul": 3.0}
_MOST_OVER_PLAIN, _MOST_OVER_PROTOTYPE = 2.0, 1.5
_NONE = "-"


@dataclass(frozen=True)
class _Aim:
    """A ratio and what it should be.

    Attributes:
        ratio: of seconds, ours over theirs; None where nothing was compared.
        most: what it should be at most; None without an aim.
    """

    ratio: float | None
    most: float | None

    @property
    def missed(self) -> bool:
        return self.ratio is not None and self.most is not None and self.ratio > self.most


@dataclass(frozen=True)
class _Row:
    """One case for one number of rows: ours over mutual TLS beside ours over plain sockets and SPU, plain beside the
    prototype."""

    name: str
    plain: Record
    spu: Record
    prototype: Record

    @classmethod
    def of(cls, case: str, records: Sequence[Record]) -> Self:
        by = {record["against"]: record for record in records if record["case"] == case}
        return cls(case.split(",", maxsplit=1)[0], by["plain"], by["spu"], by["prototype"])

    @property
    def title(self) -> str:
        return f"{self.name}, {self.plain['rows']:,}"

    @property
    def over_spu(self) -> _Aim:
        times = _TIMES_SPU.get(self.name)
        return _Aim(self.spu.get("ratio"), None if times is None else 1 / times)

    @property
    def over_plain(self) -> _Aim:
        return _Aim(self.plain["ratio"], _MOST_OVER_PLAIN)

    @property
    def over_prototype(self) -> _Aim:
        return _Aim(self.prototype.get("ratio"), _MOST_OVER_PROTOTYPE)

    @property
    def misses(self) -> Iterator[str]:
        """What this row misses, in words."""
        if self.over_spu.missed:
            yield f"{self.title}: {_times(self.over_spu.ratio)} times SPU, aim {_TIMES_SPU[self.name]:g}"
        for aim, what in (
            (self.over_plain, "mutual TLS takes {} times plain sockets, aim at most {:g}"),
            (self.over_prototype, "plain sockets take {} times the prototype, aim at most {:g}"),
        ):
            if aim.missed:
                yield f"{self.title}: " + what.format(f"{aim.ratio:.2f}", aim.most)


@click.command()
@click.argument("records", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(records: Path) -> None:
    """Write the page of the RECORDS of one whole run, and keep them beside it."""
    told = records.read_text(encoding="utf-8")
    written = page(told)
    KEPT.write_text(told, encoding="utf-8")
    PAGE.write_text(written, encoding="utf-8")


def page(told: str) -> str:
    """The page of what a whole run printed.

    Raises:
        ValueError: records of something else, or of no whole run.
    """
    records: list[Record] = [json.loads(line) for line in told.splitlines()]
    _require_whole(records)
    rows = [_Row.of(case, records) for case in dict.fromkeys(record["case"] for record in records)]
    machines = dict.fromkeys(record.get("machine", "not on record") for record in records)
    return "\n\n".join(
        [
            _INTRODUCTION.format(machine=" / ".join(machines)),
            _aims(rows),
            "## Seconds and ratios\n\n" + _SECONDS + "\n\n" + _table(_TIMES, map(_times_of, rows)),
            "## Bytes, rounds, memory\n\n" + _AMOUNTS + "\n\n" + _table(_SIZES, map(_sizes_of, rows)),
            "## What is not compared\n\n" + _gaps(rows),
        ]
    )


def _require_whole(records: Sequence[Record]) -> None:
    of_others = {record["benchmark"] for record in records} - {"rep3"}
    if of_others or not records:
        raise ValueError(f"the page is of the benchmark rep3, not of {sorted(of_others) or 'nothing'}")
    for record in records:
        case = CASES.get(record["case"].split(",", maxsplit=1)[0])
        if case is None or record["rows"] not in case.rows:
            raise ValueError(f"no case of a whole run, but perhaps of a quick one: {record['case']}")


def _aims(rows: Sequence[_Row]) -> str:
    text = "## Aims\n\n" + _AIMS
    misses = [miss for row in rows for miss in row.misses]
    if misses:
        return text + "\n\n**Missed in this run:**\n\n" + "\n".join(f"- {miss}" for miss in misses)
    return text + "\n\nAll of them are met in this run, as far as the tables below have a figure."


def _times_of(row: _Row) -> list[str]:
    return [
        row.title,
        _seconds(row.plain["seconds"]),
        _seconds(row.plain["against_seconds"]),
        _seconds(row.spu.get("against_seconds")),
        _seconds(row.prototype.get("against_seconds")),
        _marked(row.over_spu, _times(row.over_spu.ratio)),
        _NONE if row.over_spu.most is None else f"{_TIMES_SPU[row.name]:g}",
        _marked(row.over_plain, f"{row.over_plain.ratio:.2f}"),
        _marked(row.over_prototype, _NONE if row.over_prototype.ratio is None else f"{row.over_prototype.ratio:.2f}"),
    ]


def _sizes_of(row: _Row) -> list[str]:
    ours, spu = row.plain, row.spu
    return [
        row.title,
        f"{ours['bytes']:,}",
        _count(spu.get("against_bytes")),
        f"{ours['rounds']:,}",
        _count(spu.get("against_rounds")),
        _count(ours["peak_mib"]),
        _count(ours["against_peak_mib"]),
        _count(spu.get("against_peak_mib")),
    ]


def _gaps(rows: Sequence[_Row]) -> str:
    lines = []
    left = [f"{case.name}, {count:,}" for case in CASES.values() for count in case.rows]
    left = [title for title in left if title not in {row.title for row in rows}]
    if left:
        lines.append(f"- Not in this run: {'; '.join(left)}.")
    for other in ("spu", "prototype"):
        reasons: dict[str, list[str]] = {}
        for row in rows:
            record = getattr(row, other)
            if "skipped" in record:
                reasons.setdefault(record["skipped"], []).append(row.title)
        name = "SPU" if other == "spu" else "The prototype"
        lines += [f"- {name}, {'; '.join(titles)}: {reason}." for reason, titles in reasons.items()]
    return "\n".join(lines or ["Nothing."]) + "\n"


def _marked(aim: _Aim, shown: str) -> str:
    return f"**{shown}, missed**" if aim.missed else shown


def _times(ratio: float | None) -> str:
    """How many times as fast."""
    return _NONE if ratio is None else f"{1 / ratio:.2f}"


def _seconds(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds:#.3g}".rstrip(".")


def _count(number: float | None) -> str:
    return _NONE if number is None else f"{number:,.0f}"


def _table(columns: Sequence[str], lines: Iterator[list[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


_TIMES = (
    "Case, rows",
    "ours, mutual TLS",
    "ours, plain",
    "SPU, plain",
    "prototype",
    "times SPU",
    "aim",
    "TLS over plain",
    "plain over prototype",
)

_SIZES = (
    "Case, rows",
    "bytes, ours",
    "bytes, SPU",
    "rounds, ours",
    "sends, SPU",
    "peak MiB, ours, TLS",
    "peak MiB, ours, plain",
    "peak MiB, SPU",
)

_INTRODUCTION = """# Three-party computation, measured

One whole run of `python -m benchmarks rep3`: three processes on two cores, 64-bit numbers; ours over mutual TLS and
over plain sockets, SPU 0.9.5 (ABY3) over plain links, as it ships, and a measuring prototype of the same protocols over
plain sockets, which is not part of this repository. What is measured, and how, stands in `benchmarks/rep3.py`.

Machine: {machine}.

This page is generated from what the run printed, which is kept beside it: [benchmarks-rep3.json](benchmarks-rep3.json).
To repeat it, on a machine with nothing else to do:

    REP3_FLOOR=<the prototype> python -m benchmarks rep3 > rep3.json
    python -m benchmarks._rep3_page rep3.json

The first run installs SPU into an environment of its own. Without `REP3_FLOOR` no prototype is compared."""

_AIMS = """Ours over mutual TLS against SPU over plain links: products and matrix products 3 times as fast, comparisons
and sorting 6 times, equality 3 times. Mutual TLS takes at most twice the time of plain sockets. Ours over plain sockets
takes at most 1.5 times that of the prototype, in the best repetition of each."""

_SECONDS = """Wall seconds of the slowest party: medians, but for the prototype, which tells its best repetition; its
ratio is of the best repetitions of both. A sum of three is each party's own vector, opened to one party under pairwise
masks, as by the protocol `additive`; a radix sort is by 32 bits; bits become numbers of 32 bits; matrices are 1,000 x
100 and 100 x 1,000."""

_AMOUNTS = """Of the party that sent, or held, the most; payload without framing and TLS. Rounds are messages that wait
for one another, where SPU counts sends. Memory is resident, with interpreter, libraries and inputs. The prototype tells
none of these."""

if __name__ == "__main__":
    main(prog_name="python -m benchmarks._rep3_page")
