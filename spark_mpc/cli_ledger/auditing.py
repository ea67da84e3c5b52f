"""What a ledger gives an auditor: its claims, its audit log, and the proof that both agree."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from lake.ledger import Ledger
from lake.sessions import delta_session
from spark_mpc.cli_ledger.common import WHERE, told

__all__ = ["export", "mirror", "verify"]

_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n")


@click.command()
@WHERE
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("--audit", is_flag=True, help="The audit log instead, one JSON object a line, each with its hash.")
@told
def export(path: str, form: str, audit: bool) -> None:
    """Write every claim of the ledger PATH as CSV, or as one JSON object a line; amounts are exact.

    In CSV, text that begins as a formula does in a spreadsheet has an apostrophe before it; JSON has it as it is.
    """
    with Ledger.open(path) as opened:
        text = _audit_log(opened) if audit else _FORMATS[form](opened.export_rows())
    click.echo(text, nl=False)


@click.command()
@WHERE
@told
def verify(path: str) -> None:
    """Carry the audit log of the ledger PATH out again, and compare every block and claim with it."""
    with Ledger.open(path) as opened:
        head = opened.verify()
        click.echo(f"{opened.name}: {head.sequence} events, and the ledger holds what they say; head {head.hash}")


@click.command()
@WHERE
@click.argument("delta_path")
@click.option("--check", is_flag=True, help="Write nothing: check that the ledger holds what the mirror has seen.")
@told
def mirror(path: str, delta_path: str, check: bool) -> None:
    """Append what the Delta table DELTA_PATH lacks of the audit log of the ledger PATH; needs Spark."""
    with Ledger.open(path) as opened:
        spark = delta_session("spark-mpc ledger")  # ends with this process
        head = opened.check_mirror(spark, delta_path) if check else opened.mirror(spark, delta_path)
        click.echo(f"{delta_path}: {head.sequence} events of {opened.name}; head {head.hash}")


def _audit_log(ledger: Ledger) -> str:
    return _json_lines([vars(event) for event in ledger.events()])


def _csv(rows: Sequence[dict[str, str]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows({name: _no_formula(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _no_formula(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA_BEGINS) else value


def _json_lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


_FORMATS: dict[str, Callable[[Sequence[dict[str, str]]], str]] = {"csv": _csv, "json": _json_lines}
