"""Looking at a ledger: its balance, its blocks, its claims, once or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from typing import get_args

import click

from dp.accounting.ledger import Entry, EntryState
from lake.ledger import Ledger
from spark_mpc.cli_ledger.common import WHERE, told
from spark_mpc.cli_ledger.tables import block_table, claim_table, peer_table, settings_lines, summary

__all__ = ["blocks", "claims", "show", "watch"]

_NEWEST = 20
_OPEN: tuple[EntryState, ...] = ("waiting", "reserved", "armed")
_STATES: dict[str | None, tuple[EntryState, ...]] = {None: (), **{state: (state,) for state in get_args(EntryState)}}


@click.command()
@WHERE
@click.option("--all", "every", is_flag=True, help=f"Every claim, not just the newest {_NEWEST}.")
@told
def show(path: str, every: bool) -> None:
    """Show what of the ledger PATH is spent, on what, what remains, what its steward chose, and whom it has met."""
    with Ledger.open(path) as opened:
        entries = opened.entries()
        peers = [peer_table(met)] if (met := opened.peer_heads()) else []
        text = [_head(opened), *peers, *_claims(opened, entries if every else entries[-_NEWEST:])]
    click.echo("\n\n".join(text))
    if not every and len(entries) > _NEWEST:
        click.echo(f"({len(entries) - _NEWEST} earlier claims: --all)")


@click.command()
@WHERE
@click.option("--layout", help="Only the blocks of this layout.")
@told
def blocks(path: str, layout: str | None) -> None:
    """Show what every block of the ledger PATH has left. In the bars: # consumed, + acquired, . unlocked, - locked."""
    with Ledger.open(path) as opened:
        states = [state for state in opened.blocks() if layout in (None, state.layout)]
        names = [one.rule.name for one in opened.layouts()]
    if not states and layout not in names:
        there = f"its layouts are {', '.join(names)}" if names else "it has none: spark-mpc ledger lay-out makes one"
        raise click.UsageError(f"the ledger has no layout {layout!r}: {there}")
    if not states:
        raise click.UsageError(f"no block of layout {layout!r} was made yet: the first claim on one makes it")
    click.echo(block_table(states))


@click.command()
@WHERE
@click.option("--state", type=click.Choice(list(get_args(EntryState))), help="Only claims in this state.")
@click.option("--owner", help="Only claims of this owner.")
@click.option("--block", help='Only claims on this block; "whole" for those on what is not cut.')
@told
def claims(path: str, state: str | None, owner: str | None, block: str | None) -> None:
    """Show the claims of the ledger PATH, oldest first; of those that wait, how long they still do."""
    with Ledger.open(path) as opened:
        found = opened.entries(*_STATES[state])
        found = [one for one in found if owner in (None, one.owner) and (block is None or block in one.blocks)]
        shown = _claims(opened, found)
    click.echo("\n".join(shown) if shown else "no such claims")


@click.command()
@WHERE
@click.option("--seconds", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Between two looks.")
@click.option("--times", type=click.IntRange(min=1), help="How many looks.  [default: until Ctrl-C]")
@told
def watch(path: str, seconds: float, times: int | None) -> None:
    """Show the ledger PATH and its open claims again and again; without a terminal, a line for each look."""
    draw = _redraw if sys.stdout.isatty() else _print_line
    with Ledger.open(path) as opened, suppress(KeyboardInterrupt):
        for look in count(1):
            draw(opened)
            if look == times:
                return
            time.sleep(seconds)


def _head(ledger: Ledger) -> str:
    return f"{summary(ledger)}\n{settings_lines(ledger.settings(), ledger.layouts())}"


def _redraw(ledger: Ledger) -> None:
    text = "\n\n".join([_head(ledger), *_claims(ledger, ledger.entries(*_OPEN))])
    click.clear()
    click.echo(text)


def _print_line(ledger: Ledger) -> None:
    entries, balance = ledger.entries(*_OPEN), ledger.balance()
    counts = ", ".join(f"{state} {sum(entry.state == state for entry in entries)}" for state in _OPEN)
    amounts = f"spent {balance.spent}  reserved {balance.reserved}  remaining {balance.remaining}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    click.echo(f"{now}  {amounts}  claims: {counts}  head {ledger.head().sequence}")


def _claims(ledger: Ledger, entries: Sequence[Entry]) -> list[str]:
    """A table of claims, if there are any."""
    return [claim_table(entries, _notes(ledger, entries))] if entries else []


def _notes(ledger: Ledger, entries: Sequence[Entry]) -> Mapping[str, str]:
    notes = {entry.claim_id: "needs approval" for entry in ledger.unapproved()}
    for entry in entries:
        if entry.waits_until:
            left = (datetime.fromisoformat(entry.waits_until) - datetime.now(UTC)).total_seconds()
            notes[entry.claim_id] = f"{max(left, 0):.0f} s more"
    return notes
