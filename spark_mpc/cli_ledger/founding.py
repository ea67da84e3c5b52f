"""What a steward does to a ledger: make it, lay tables out, choose the scheduler, let others use it."""

from __future__ import annotations

import click

from lake.blocks import Blocks
from lake.ledger import Ledger, Steward
from lake.ledger.postgres import PostgresStore, is_address
from lake.scheduling import AtOnce, scheduler_from_json
from spark_mpc.cli_ledger.common import WHERE, capacity_like, stated, told

__all__ = ["create", "grant", "lay_out", "migrate", "schedule"]


@click.command()
@WHERE
@click.option("--epsilon", help='Pure or approximate differential privacy, such as "1" or "1/3".')
@click.option("--delta", help='With --epsilon: approximate differential privacy, such as "1e-6".')
@click.option("--rho", help="Zero-concentrated differential privacy.")
@click.option("--orders", help='With --epsilon and --delta: count in Renyi orders, "usual" or such as "2,4,8,16".')
@told
def create(path: str, epsilon: str | None, delta: str | None, rho: str | None, orders: str | None) -> None:
    """Create the ledger PATH with a capacity that never changes."""
    with Ledger.create(path, capacity=stated(epsilon, delta, rho, orders)) as made:
        click.echo(f"created {made.name}: capacity {made.capacity}")


@click.command()
@WHERE
@click.option("--name", required=True, help="Of the layout: the first part of its blocks' names.")
@click.option("--every", nargs=2, metavar="LENGTH COLUMN", help='A block for each window of time, such as "1 day" at.')
@click.option("--since", help='With --every: where the first window begins, such as "2026-03-01".')
@click.option("--users", type=int, help="A block for each of so many ranges of users, within each window if any.")
@click.option("--epsilon", help="Capacity of each block, in the ledger's kind of budget.")
@click.option("--delta", help="The same.")
@click.option("--rho", help="The same.")
@told
def lay_out(
    *,
    path: str,
    name: str,
    every: tuple[str, str] | None,
    since: str | None,
    users: int | None,
    epsilon: str | None,
    delta: str | None,
    rho: str | None,
) -> None:
    """Cut a table into blocks, in the ledger PATH: what one block gives is taken from the whole, once and for good."""
    rule = _rule(name, every, since, users)
    with Ledger.open(path) as opened:
        capacity = capacity_like(opened.capacity, epsilon, delta, rho)
        layout = Steward(opened).lay_out(rule, capacity=capacity)
        click.echo(f"{layout.rule}: {layout.capacity} a block; {opened.remaining()} remains of the whole")


@click.command()
@WHERE
@click.argument("scheduler", type=click.Choice(["fcfs", "round-robin", "dpf", "dpack"]))
@click.option("--arrivals", type=int, metavar="N", help="Each claim that arrives unlocks 1/N of its blocks.")
@click.option("--lifetime", type=int, metavar="SECONDS", help="Blocks unlock evenly over so many seconds.")
@click.option("--period", type=int, metavar="SECONDS", help="With --lifetime: a part at a time, every so many seconds.")
@told
def schedule(path: str, scheduler: str, arrivals: int | None, lifetime: int | None, period: int | None) -> None:
    """Choose who is granted when claims compete for the ledger PATH, from now on.

    Without an option blocks are open, also those that are there already. What is unlocked stays unlocked.
    """
    if (arrivals is not None and lifetime is not None) or (period is not None and lifetime is None):
        raise click.UsageError("give --arrivals, or --lifetime (and then --period, if you like), or neither")
    given = {"arrivals": arrivals, "lifetime_seconds": lifetime, "period_seconds": period}
    unlocking: dict[str, object] = {kind: value for kind, value in given.items() if value is not None}
    chosen = scheduler_from_json({"scheduler": scheduler, "unlocking": unlocking or {"at_once": True}})
    with Ledger.open(path) as opened:
        Steward(opened).schedule(chosen)
        click.echo(f"{opened.name}: {chosen}")
        unlocked = sum(state.share == 1 for state in opened.blocks())
        if unlocked and chosen.unlocking != AtOnce():
            click.echo(f"blocks that are wholly unlocked already, and stay so: {unlocked}")


@click.command()
@click.argument("url")
@told
def migrate(url: str) -> None:
    """Bring the ledger URL on a server to this version; a file is brought up when it is opened."""
    if is_address(url):
        PostgresStore.migrate(url)
    with Ledger.open(url) as opened:
        click.echo(f"{opened.name} is of this version")


@click.command()
@click.argument("url")
@click.argument("role")
@told
def grant(url: str, role: str) -> None:
    """Let ROLE of the server use the ledger URL as analysts do: claim and spend, no steward's rights."""
    if not is_address(url):
        raise click.UsageError("a file has no roles, only permissions: grant is for postgresql://user@host/database")
    PostgresStore.grant(url, role)
    click.echo(f"{role} may claim and spend")


def _rule(name: str, every: tuple[str, str] | None, since: str | None, users: int | None) -> Blocks:
    if every is None:
        if users is None or since is not None:
            raise click.UsageError("give --every and --since, or --users, or all three")
        return Blocks.users(users, name=name)
    if since is None:
        raise click.UsageError("--every needs --since")
    length, column = every
    return Blocks.every(length, column, since=since, name=name, users=users)
