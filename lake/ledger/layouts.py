"""Layouts: tables that are cut into blocks, each with a capacity that was set aside from the whole once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from sqlalchemy import bindparam, insert, select

from dp.accounting.budget import Budget, budget_to_json
from dp.accounting.ledger import new_request_id
from dp.errors import InvalidArgument
from dp.planning.query import canonical
from lake.blocks.block import Block
from lake.blocks.rules import Blocks
from lake.errors import LedgerError
from lake.ledger.amounts import read_budget, write_budget
from lake.ledger.balances import made_block
from lake.ledger.books import Books
from lake.ledger.rows import Request
from lake.ledger.schema import WHOLE, layouts
from lake.ledger.settings import Settings
from lake.ledger.store import Transaction
from lake.scheduling import opened_by_time

__all__ = ["Layout", "layout_named", "layouts_of", "make_due", "set_aside"]

_ALL = select(layouts.c.rule, layouts.c.capacity, layouts.c.created_at).order_by(layouts.c.name)
_NAMED = _ALL.where(layouts.c.name == bindparam("name"))
_INSERT = insert(layouts).values({column: bindparam(column.name) for column in layouts.columns})


@dataclass(frozen=True)
class Layout:
    """A rule that cuts a table into blocks, and what each of them gives.

    Attributes:
        rule: which blocks there are.
        capacity: of each block.
        created_at: when it was laid out, in seconds since the epoch.
    """

    rule: Blocks
    capacity: Budget
    created_at: float = field(default=0.0, compare=False)


def layouts_of(tx: Transaction) -> list[Layout]:
    """Every layout, by name."""
    return [_read(*row) for row in tx.rows(_ALL)]


def layout_named(books: Books, name: str) -> Layout:
    """One layout.

    Raises:
        LedgerError: there is none of that name.
    """
    row = books.tx.row(_NAMED, name=name)
    if row is None:
        remedy = f"its steward makes them: Steward.lay_out, or `spark-mpc ledger lay-out ... --name {name}`"
        raise LedgerError(books.ledger, f"has no layout {name!r}", remedy)
    return _read(*row)


def set_aside(books: Books, rule: Blocks, capacity: Budget) -> Layout:
    """Give a layout its capacity, out of the whole and for good; laying out the same again changes nothing.

    Raises:
        BudgetExceeded: less is left of the whole.
        InvalidArgument: another layout has that name.
    """
    row = books.tx.row(_NAMED, name=rule.name)
    layout = Layout(rule, capacity)
    if row is not None:
        if _read(*row) != layout:
            raise InvalidArgument("name", rule.name, "another layout of this ledger has it: choose a new one")
        return layout
    purpose = f"set aside for each block of {rule}"
    request = Request(new_request_id(), 0.0, {WHOLE: capacity}, table=rule.name, purpose=purpose)
    books.charge(request)
    text = canonical(rule.to_json()).decode()  # whose hash is the rule's fingerprint
    books.tx.write(_INSERT, name=rule.name, rule=text, capacity=write_budget(capacity), created_at=books.tx.now)
    books.tx.record("laid out", layout=rule.to_json(), capacity=budget_to_json(capacity))
    return layout


def make_due(books: Books, settings: Settings, names: Iterable[str], fingerprint: str) -> None:
    """Make those of the blocks that are due and not there yet.

    Args:
        books: of the ledger.
        settings: of the ledger.
        names: of blocks of one layout, or the whole alone.
        fingerprint: of the rule by which the rows were cut; "" where the caller has only names.

    Raises:
        LedgerError: no such layout.
        InvalidArgument: rows were cut by another rule than the ledger's, a name that it never gives, or a block whose
            time has not come.
    """
    asked = [name for name in names if name != WHOLE]
    if not asked:
        return
    layout = layout_named(books, asked[0].partition("/")[0])
    if fingerprint and fingerprint != layout.rule.fingerprint:
        remedy = f"declare the table with the blocks that the ledger has: {layout.rule}"
        raise InvalidArgument("blocks", f"another rule than ledger {books.ledger!r} has", remedy)
    for name in asked:
        if not books.accounts.has(name):
            _make(books, settings, layout, layout.rule.block(name))


def _make(books: Books, settings: Settings, layout: Layout, block: Block) -> None:
    if block.start is not None and block.start > books.tx.now:
        raise InvalidArgument("blocks", block.name, "its window has not begun yet: ask for earlier ones")
    since = layout.created_at if block.start is None else max(block.start, layout.created_at)
    share, at = opened_by_time(settings.scheduler.unlocking, Fraction(0), since, books.tx.now)
    made_block(books.tx, block.name, layout.rule.name, layout.capacity, unlocked=share, at=at)
    books.tx.record("block made", block=block.name, capacity=budget_to_json(layout.capacity))


def _read(rule: str, capacity: str, created_at: float) -> Layout:
    return Layout(Blocks.from_json(json.loads(rule)), read_budget(capacity), created_at)
