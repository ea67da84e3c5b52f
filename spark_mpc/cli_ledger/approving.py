"""The steward's word: which claims need it, and giving it."""

from __future__ import annotations

import click

from dp.accounting.ledger import Entry
from lake.errors import LedgerError
from lake.ledger import Ledger, Steward
from lake.ledger.settings import APPROVAL_SECONDS
from spark_mpc.cli_ledger.common import WHERE, price_like, told
from spark_mpc.cli_ledger.tables import plain

__all__ = ["approval", "approve"]


@click.command()
@WHERE
@click.option("--above-epsilon", help="What a release may cost unasked; 0 asks for everything.")
@click.option("--above-delta", help="The same, on a ledger of epsilon and delta.")
@click.option("--above-rho", help="The same, on a ledger of rho.")
@click.option("--none", "nothing", is_flag=True, help="From now on nothing needs approval.")
@click.option("--wait", "wait_seconds", type=float, default=APPROVAL_SECONDS, show_default=True,
              help="Seconds that a job waits for it before it gives up.")  # fmt: skip
@told
def approval(
    *,
    path: str,
    above_epsilon: str | None,
    above_delta: str | None,
    above_rho: str | None,
    nothing: bool,
    wait_seconds: float,
) -> None:
    """Say what the ledger PATH arms only once it is approved: releases above a price, and exact openings."""
    given = (above_epsilon, above_delta, above_rho)
    if nothing == any(one is not None for one in given):
        raise click.UsageError("give --above-epsilon (and --above-delta), or --above-rho, or --none")
    with Ledger.open(path) as opened:
        above = None if nothing else price_like(opened.capacity, *given)
        Steward(opened).require_approval(above, wait_seconds=wait_seconds)
        click.echo(f"{opened.name}: " + ("nothing needs approval" if above is None else f"unasked up to {above}"))


@click.command()
@WHERE
@click.argument("number", type=int)
@click.option("--yes", is_flag=True, help="Do not ask.")
@told
def approve(path: str, number: int, yes: bool) -> None:
    """Agree to what claim NUMBER of the ledger PATH pays for, at its price: now, and when it is asked for again."""
    with Ledger.open(path) as opened:
        entry = next((one for one in opened.entries() if one.claim_id == str(number)), None)
        if entry is None or not entry.release_key:
            remedy = f"`spark-mpc ledger claims {opened.name!r}` lists them"
            raise LedgerError(opened.name, f"claim {number} pays for no release, or is unknown", remedy)
        click.echo(_described(entry))
        if not yes:
            click.confirm("Approve?", abort=True)
        Steward(opened).approve(number)
        click.echo(f"approved claim {number}")


def _described(entry: Entry) -> str:
    price = f"exact opening {entry.disclosure!r}" if entry.disclosure else str(entry.price)
    lines = {
        "price": price + (f" of each of {', '.join(entry.blocks)}" if entry.blocks != ("whole",) else ""),
        "table": entry.table,
        "version": entry.data_version,
        "purpose": entry.purpose,
        "owner": entry.owner,
        "asked": f"{entry.created_at}, now {entry.state}",
    }
    return "\n".join(f"{name:<8} {plain(value)}" for name, value in lines.items() if value)
