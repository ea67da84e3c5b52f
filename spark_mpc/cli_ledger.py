"""`spark-mpc ledger`: a steward's commands. Create a budget, see what became of it, export it for audit."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from dp.accounting.budget import ZCDP, ApproxDP, Budget, PureDP, RenyiDP
from dp.accounting.ledger import Entry
from dp.accounting.renyi import ORDERS
from dp.errors import SparkMpcError
from lake.ledger import Ledger

__all__ = ["ledger"]

P = ParamSpec("P")
R = TypeVar("R")

_PATH = click.argument("path", type=click.Path(dir_okay=False, path_type=Path))


def _told(command: Callable[P, R]) -> Callable[P, R]:
    """Our own errors end a command with their message; anything else is a bug and keeps its traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except SparkMpcError as error:
            raise click.ClickException(str(error)) from error

    return run


@click.group()
def ledger() -> None:
    """Create, show and export a privacy ledger."""


@ledger.command()
@_PATH
@click.option("--epsilon", help='Pure or approximate differential privacy, such as "1" or "1/3".')
@click.option("--delta", help='With --epsilon: approximate differential privacy, such as "1e-6".')
@click.option("--rho", help="Zero-concentrated differential privacy.")
@click.option("--orders", help='With --epsilon and --delta: count in Renyi orders, "usual" or such as "2,4,8,16".')
@_told
def create(path: Path, epsilon: str | None, delta: str | None, rho: str | None, orders: str | None) -> None:
    """Create the ledger PATH with a capacity that never changes."""
    with Ledger.create(path, capacity=_capacity(epsilon, delta, rho, orders)) as made:
        click.echo(f"created {made.name}: capacity {made.capacity}")


@ledger.command()
@_PATH
@_told
def show(path: Path) -> None:
    """Show what of the ledger PATH is spent, on what, and what remains."""
    with Ledger.open(path) as opened:
        balance = opened.balance()
        entries = opened.entries()
    click.echo(f"ledger     {opened.name} ({opened.ledger_id})")
    for name, amount in vars(balance).items():
        click.echo(f"{name:<10} {amount}")
    if entries:
        header = ("created", "state", "price", "table", "data version", "purpose", "run")
        click.echo()
        click.echo(_aligned([header, *map(_line, entries)]))


@ledger.command()
@_PATH
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@_told
def export(path: Path, form: str) -> None:
    """Write every entry of the ledger PATH as CSV, or as one JSON object a line; amounts are exact."""
    with Ledger.open(path) as opened:
        rows = opened.export_rows()
    click.echo(_FORMATS[form](rows), nl=False)


def _capacity(epsilon: str | None, delta: str | None, rho: str | None, orders: str | None) -> Budget:
    if rho is not None and epsilon is None and delta is None and orders is None:
        return ZCDP(rho)
    if epsilon is None or rho is not None:
        raise click.UsageError("give --epsilon, or --epsilon and --delta, or --rho")
    if delta is not None:
        return ApproxDP(epsilon, delta) if orders is None else _renyi(epsilon, delta, orders)
    if orders is not None:
        raise click.UsageError("--orders needs --epsilon and --delta")
    return PureDP(epsilon)


def _renyi(epsilon: str, delta: str, orders: str) -> RenyiDP:
    return RenyiDP.capacity(epsilon, delta, ORDERS if orders == "usual" else orders.split(","))


def _line(entry: Entry) -> tuple[str, ...]:
    created = entry.created_at.partition(".")[0]
    price = f"exact: {entry.disclosure}" if entry.disclosure else str(entry.price)
    return created, entry.state, price, entry.table, entry.data_version, entry.purpose, entry.run_id


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _csv(rows: Sequence[dict[str, str]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _json_lines(rows: Sequence[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


_FORMATS: dict[str, Callable[[Sequence[dict[str, str]]], str]] = {"csv": _csv, "json": _json_lines}
