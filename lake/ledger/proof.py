"""The proof that a ledger's tables hold what its audit log says, and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from dp.accounting.budget import Budget, budget_from_json
from lake.errors import LedgerError
from lake.ledger.amounts import added, nothing_like, read_budget
from lake.ledger.audit import BY_HAND, Event, chain, events_after
from lake.ledger.balances import Accounts, BlockState
from lake.ledger.replay import Replay, ReplayedBlock
from lake.ledger.rows import ClaimRow, all_claims
from lake.ledger.schema import WHOLE, approvals, layouts, ledger, releases
from lake.ledger.store import GENESIS, Head, Transaction

__all__ = ["Tables", "all_tables", "proved"]

_FOUNDED = select(ledger.c.ledger_id, ledger.c.capacity, ledger.c.settings)
_LAYOUTS = select(layouts.c.name, layouts.c.rule, layouts.c.capacity)
_APPROVALS = select(approvals.c.release_key, approvals.c.price)
_STORED = select(releases.c.release_key, releases.c.claim)

_Fault = tuple[float, str]
"""The event that says otherwise, and what is otherwise."""

_NONE = math.inf
"""In the place of an event where there should be one and is none."""


@dataclass(frozen=True)
class Tables:
    """What a ledger holds at one moment, and its audit log.

    Attributes:
        events: the whole log.
        ledger_id: the ledger's name.
        capacity: of the whole.
        settings: as JSON.
        blocks: every one.
        claims: every one.
        layouts: by name, rule and capacity.
        approvals: by release key, what may be paid.
        stored: by release key, the claim that paid.
    """

    events: list[Event]
    ledger_id: str
    capacity: Budget
    settings: object
    blocks: list[BlockState]
    claims: list[ClaimRow]
    layouts: Mapping[str, tuple[object, Budget]]
    approvals: Mapping[str, Budget]
    stored: Mapping[str, int]


def all_tables(tx: Transaction, name: str) -> Tables:
    """Read everything that the audit log speaks of.

    Args:
        tx: on the ledger.
        name: of the ledger, for errors.

    Raises:
        LedgerError: something in it cannot be read.
    """
    ((ledger_id, capacity, settings),) = tx.rows(_FOUNDED)
    try:
        return Tables(
            events=events_after(tx, 0),
            ledger_id=ledger_id,
            capacity=read_budget(capacity),
            settings=json.loads(settings),
            blocks=Accounts(tx, name).all(),
            claims=all_claims(tx),
            layouts={layout: (json.loads(rule), read_budget(text)) for layout, rule, text in tx.rows(_LAYOUTS)},
            approvals={key: read_budget(text) for key, text in tx.rows(_APPROVALS)},
            stored=dict(tx.rows(_STORED)),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LedgerError(name, f"a row cannot be read ({type(error).__name__})", BY_HAND) from None


def proved(found: Tables, name: str) -> Head:
    """Carry the audit log out again and compare.

    Args:
        found: a ledger at one moment.
        name: of the ledger, for errors.

    Returns:
        Where the log ends.

    Raises:
        LedgerError: a difference; names the first event that is wrong, or that says otherwise than the tables.
    """
    replay, head = Replay(name), GENESIS
    for event in chain(found.events, name):
        replay.apply(event)
        head = event.head
    if WHOLE not in replay.blocks:
        raise replay.fault(1, "makes no ledger")
    faults = [*_founding(found, replay), *_blocks(found, replay), *_claims(found, replay), *_records(found, replay)]
    if faults:
        raise replay.fault(*min(faults))
    return head


def _founding(found: Tables, replay: Replay) -> Iterator[_Fault]:
    if replay.ledger_id not in ("", found.ledger_id):
        yield 1, f"made ledger {replay.ledger_id}, this is {found.ledger_id}"
    if found.capacity != replay.blocks[WHOLE].capacity:
        yield 1, f"gave {replay.blocks[WHOLE].capacity}, the ledger says {found.capacity}"
    said = {} if replay.settings is None else replay.settings.fields["settings"]
    if found.settings != said:
        yield _unlike(replay.settings, "the settings")


def _blocks(found: Tables, replay: Replay) -> Iterator[_Fault]:
    states = {state.name: state for state in found.blocks}
    for name in sorted(states.keys() - replay.blocks.keys()):
        yield _NONE, f"makes block {name!r}"
    for name, said in replay.blocks.items():
        yield from _block(name, said, states.get(name))


def _block(name: str, said: ReplayedBlock, found: BlockState | None) -> Iterator[_Fault]:
    if found is None:
        yield said.touched, f"is about block {name!r}, which is not there"
        return
    for part in ("capacity", "acquired", "consumed"):
        here, there = getattr(said, part), getattr(found, part)
        if here != there:
            yield said.touched, f"leaves block {name!r} with {here} {part}, the ledger says {there}"


def _claims(found: Tables, replay: Replay) -> Iterator[_Fault]:
    rows = {row.number: row for row in found.claims}
    for number, said in replay.claims.items():
        if number not in rows:
            yield said.touched, f"is about claim {number}, which is not there"
        elif (difference := _difference(replay, rows[number])) is not None:
            yield said.touched, f"says of claim {number} {difference}"
    if not replay.migrated:
        yield from ((_NONE, f"is about claim {number}") for number in rows.keys() - replay.claims.keys())
    yield from _sums(replay, found.claims)


def _difference(replay: Replay, row: ClaimRow) -> str | None:
    said, request = replay.claims[row.number], row.request
    pairs: list[tuple[str, Any, Any]] = [
        ("state", said.state, row.state),
        ("amounts", said.held, row.held),
        ("price", request.demand if said.asked is None else said.asked, request.demand),
        ("parent", said.parent, request.parent),
        ("release key", request.release_key if said.release_key is None else said.release_key, request.release_key),
    ]
    differing = (f"{what} {here}, the ledger says {there}" for what, here, there in pairs if here != there)
    return next(differing, None)


def _sums(replay: Replay, rows: Iterable[ClaimRow]) -> Iterator[_Fault]:
    """What claims hold of each block is what the block says that they hold."""
    parts = {"reserved": "acquired", "armed": "consumed", "spent": "consumed"}
    sums: dict[tuple[str, str], Budget] = {}
    for row in rows:
        for block, amount in row.held.items() if row.state in parts else ():
            key = (block, parts[row.state])
            sums[key] = added(sums[key], amount) if key in sums else amount
    for name, said in replay.blocks.items():
        for part in ("acquired", "consumed"):
            held = sums.pop((name, part), nothing_like(said.capacity))
            if held != getattr(said, part):
                yield said.touched, f"leaves block {name!r} with {getattr(said, part)} {part}, its claims hold {held}"


def _records(found: Tables, replay: Replay) -> Iterator[_Fault]:
    """Layouts, approvals and stored releases: each has its event, and each event has it."""
    stored = {key: claim for key, claim in found.stored.items() if claim in replay.claims or not replay.migrated}
    yield from _compared("layout", replay.layouts, _laid_out, found.layouts)
    yield from _compared("approval of", replay.approvals, lambda said: budget_from_json(said["price"]), found.approvals)
    yield from _compared("release", replay.stored, lambda said: said["claim"], stored)


def _laid_out(said: Mapping[str, Any]) -> tuple[object, Budget]:
    return said["layout"], budget_from_json(said["capacity"])


def _compared(
    what: str, events: Mapping[str, Event], read: Callable[[Mapping[str, Any]], object], found: Mapping[str, object]
) -> Iterator[_Fault]:
    for name in sorted(events.keys() | found.keys()):
        event = events.get(name)
        if event is None or name not in found or read(event.fields) != found[name]:
            yield _unlike(event, f"{what} {name!r}")


def _unlike(event: Event | None, what: str) -> _Fault:
    if event is None:
        return _NONE, f"says what is written of {what}"
    return event.sequence, f"says otherwise of {what} than what is written"
