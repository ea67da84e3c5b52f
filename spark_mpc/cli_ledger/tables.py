"""What people see of a ledger as text: aligned columns, a bar for each block, a line for each claim."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from dp.accounting.budget import Budget, RenyiDP
from dp.accounting.ledger import Entry
from lake.ledger import BlockState, Ledger
from lake.ledger.amounts import iso
from lake.ledger.heads import PeerHead
from lake.ledger.layouts import Layout
from lake.ledger.settings import Settings
from lake.scheduling import scheduler_to_json

__all__ = ["aligned", "bar", "block_table", "claim_table", "peer_table", "plain", "settings_lines", "summary"]

_BAR_CELLS = 10

_CLAIM_HEADER = ("number", "created", "state", "price", "table", "data version", "purpose", "run", "owner", "blocks")
_PEER_HEADER = ("peer", "pays from ledger", "events", "last seen", "")
_BLOCK_HEADER = ("block", "", "capacity", "locked", "unlocked", "acquired", "consumed", "retired")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns, each as wide as its widest cell; columns without any text below the header are left out."""
    kept = [[plain(cell) for cell in column] for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    padded = [[f"{cell:<{width}}" for cell in column] for column, width in zip(kept, widths, strict=True)]
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def plain(text: str) -> str:
    """Text that an analyst wrote, for a steward's terminal: nothing in it moves the cursor or turns the line around."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def summary(ledger: Ledger) -> str:
    """The whole: what it is, what became of it, where its audit log ends."""
    head, balance = ledger.head(), ledger.balance()
    lines = [f"ledger     {ledger.name} ({ledger.ledger_id})"]
    lines += [f"{name:<10} {amount}" for name, amount in vars(balance).items()]
    return "\n".join([*lines, f"head       {head.sequence} {head.hash}"])


def settings_lines(settings: Settings, layouts: Iterable[Layout]) -> str:
    """What the steward chose, a line each."""
    lines = [f"scheduler  {_scheduler(settings)}"]
    if settings.approval_above is not None:
        wait = f"; jobs wait {settings.approval_seconds:g} s for it"
        lines.append(f"approval   for exact openings, and above {settings.approval_above}{wait}")
    lines += [f"layout     {_rule(layout)}: {layout.capacity} a block" for layout in layouts]
    return "\n".join(lines)


def block_table(states: Sequence[BlockState]) -> str:
    """A line for each block, with a bar: # consumed, + acquired, . unlocked, - locked."""
    return aligned([_BLOCK_HEADER, *map(_block_line, states)])


def claim_table(entries: Sequence[Entry], notes: Mapping[str, str]) -> str:
    """A line for each claim.

    Args:
        entries: the claims.
        notes: claim -> what else is to be said of its state, such as how long it still waits.
    """
    return aligned([_CLAIM_HEADER, *(_claim_line(entry, notes.get(entry.claim_id, "")) for entry in entries)])


def peer_table(peers: Sequence[PeerHead]) -> str:
    """A line for each ledger that a peer was seen to pay from; several of one party are said to be."""
    parties = [peer.party for peer in peers]
    notes = ["not its first: ask why" if party in parties[:place] else "" for place, party in enumerate(parties)]
    return aligned([_PEER_HEADER, *map(_peer_line, peers, notes)])


def bar(state: BlockState) -> str:
    """Ten cells of a block: # consumed, + acquired, . unlocked, - locked; of the amount that is fullest.

    A Renyi budget shows the order that has most room. Cells are rounded up from the left: what is used a little shows.
    A block that never had anything to give is locked.
    """
    used, parts = _used(state), ("consumed", "acquired", "unlocked")
    if not used:
        return "-" * _BAR_CELLS
    name = min(used, key=used.__getitem__) if isinstance(state.capacity, RenyiDP) else max(used, key=used.__getitem__)
    text, total, capacity = "", Fraction(0), state.capacity.amounts[name]
    for cell, part in zip("#+.", parts, strict=True):
        budget: Budget = getattr(state, part)
        total += budget.amounts[name] / capacity
        text = text.ljust(min(max(math.ceil(total * _BAR_CELLS), len(text)), _BAR_CELLS), cell)
    return text.ljust(_BAR_CELLS, "-")


def _used(state: BlockState) -> dict[str, Fraction]:
    """Amount -> the part of it that is consumed or acquired; of amounts that there are."""
    remaining = state.remaining.amounts
    return {name: 1 - remaining[name] / whole for name, whole in state.capacity.amounts.items() if whole}


def _block_line(state: BlockState) -> tuple[str, ...]:
    amounts = (state.capacity, state.locked, state.unlocked, state.acquired, state.consumed)
    return (state.name, bar(state), *map(_short, amounts), "yes" if state.retired else "no")


def _short(budget: Budget) -> str:
    """Without the Renyi orders, of which there are many: the whole line stays readable."""
    if isinstance(budget, RenyiDP):
        return "/".join(f"{float(amount):.3g}" for amount in budget.amounts.values())
    return str(budget)


def _claim_line(entry: Entry, note: str) -> tuple[str, ...]:
    created = entry.created_at.partition(".")[0]
    price = f"exact: {entry.disclosure}" if entry.disclosure else _short(entry.price)
    state = f"{entry.state} ({note})" if note else entry.state
    record = (entry.table, entry.data_version, entry.purpose, entry.run_id, entry.owner)
    return entry.claim_id, created, state, price, *record, _some(entry.blocks)


def _peer_line(peer: PeerHead, note: str) -> tuple[str, ...]:
    return peer.party, peer.ledger_id, str(peer.head.sequence), iso(peer.seen_at).partition(".")[0], note


def _some(blocks: tuple[str, ...]) -> str:
    if len(blocks) == 1:
        return "" if blocks == ("whole",) else blocks[0]
    return f"{blocks[0]} to {blocks[-1]}, {len(blocks)} in all"


def _rule(layout: Layout) -> str:
    return str(layout.rule).removeprefix("layout ")


def _scheduler(settings: Settings) -> str:
    written = scheduler_to_json(settings.scheduler)
    unlocking: Mapping[str, object] = written["unlocking"]  # type: ignore[assignment]
    numbers = [f"{kind.replace('_', ' ')} {value}" for kind, value in unlocking.items() if value is not True]
    return ", ".join([str(written["scheduler"]), *numbers])
