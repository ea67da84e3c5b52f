"""Whether a ledger keeps its word: its sums worked out afresh from its claims, its log read again, and looks compared.

Sums are made here, from the text of the rows and with nothing but fractions: an error in the ledger's own arithmetic
shows. It looks over a connection of its own, which ends no lease.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

from sqlalchemy import select

from dp.accounting.budget import Budget, RenyiDP
from lake.errors import LedgerError
from lake.ledger.audit import events_after
from lake.ledger.balances import Accounts, BlockState
from lake.ledger.replay import Replay
from lake.ledger.schema import claims
from lake.ledger.store import GENESIS, Head, Store, Transaction, chained

__all__ = ["Amounts", "Auditor", "Look"]

Amounts = Mapping[str, Fraction]
"""A budget as plain numbers."""

_CLAIMS = select(
    claims.c.number,
    claims.c.state,
    claims.c.fence,
    claims.c.lease_expires_at,
    claims.c.blocks,
    claims.c.price,
    claims.c.held,
)
_NEXT = {
    "waiting": {"waiting", "reserved", "armed", "spent", "released", "failed"},
    "reserved": {"reserved", "armed", "spent", "released"},
    "armed": {"armed", "spent"},
    "spent": {"spent"},
    "released": {"released"},
    "failed": {"failed"},
}


@dataclass(frozen=True)
class Look:
    """A ledger at one moment.

    Attributes:
        blocks: by name.
        states: of the claims, by number.
        held: what each claim holds, or has paid, of each block.
        leases: the fence of each claim, and until when its lease runs.
        problems: what is wrong, in words; none if all is well.
    """

    blocks: Mapping[str, BlockState] = field(default_factory=dict)
    states: Mapping[int, str] = field(default_factory=dict)
    held: Mapping[int, Mapping[str, Amounts]] = field(default_factory=dict)
    leases: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class Auditor:
    """Looks at one ledger again and again.

    Guarantees:
        A look without problems says, of every block: capacity = locked + unlocked + acquired + consumed exactly;
        acquired is what the reserved claims hold and consumed what the armed and spent ones do; both together are
        within the capacity (of Renyi budgets, at one order); the unlocked share lies in [0, 1]. Of the audit log: every
        event is hashed with all before it, and the events carried out again give the same sums and states. Since the
        look before: no capacity changed, no share and no consumed amount fell, no claim took a step back.
    """

    def __init__(self, store: Store) -> None:
        """Look at the ledger in `store`, from its first event on."""
        self._store = store
        self._replay = Replay(store.name)
        self._head = GENESIS
        self._last = Look()

    def move_to(self, store: Store) -> None:
        """Look over another connection to the same ledger from here on."""
        self._store = store

    def look(self) -> Look:
        """The ledger now."""
        with self._store.transaction() as tx:
            blocks = {state.name: state for state in Accounts(tx, self._store.name).all()}
            rows = tx.rows(_CLAIMS)
            log = list(self._log(tx))
        states = {row[0]: row[1] for row in rows}
        held = {row[0]: _held(*row[4:]) for row in rows}
        look = Look(blocks, states, held, {row[0]: row[2:4] for row in rows})
        problems = [*log, *_sums(look), *_changes(self._last, look), *self._differences(look)]
        self._last = replace(look, problems=tuple(problems))
        return self._last

    def _log(self, tx: Transaction) -> Iterator[str]:
        """Carry out the events since the last look."""
        for event in events_after(tx, self._head.sequence):
            due = Head(self._head.sequence + 1, chained(self._head.hash, event.event))
            if event.head != due:
                yield f"audit event {event.sequence} does not follow event {self._head.sequence}"
            self._head = event.head
            try:
                self._replay.apply(event)
            except LedgerError as error:
                yield str(error)

    def _differences(self, look: Look) -> Iterator[str]:
        """Where the audit log says otherwise than the rows."""
        logged = {name: (block.acquired, block.consumed) for name, block in self._replay.blocks.items()}
        standing = {name: (block.acquired, block.consumed) for name, block in look.blocks.items()}
        if logged != standing:
            yield f"the audit log leaves {logged}, the blocks say {standing}"
        states = {number: claim.state for number, claim in self._replay.claims.items()}
        if states != look.states:
            yield f"the audit log leaves claims {states}, the rows say {look.states}"


def _sums(look: Look) -> Iterator[str]:
    for name, block in look.blocks.items():
        capacity, acquired, consumed = block.capacity.amounts, block.acquired.amounts, block.consumed.amounts
        within = [acquired[amount] + consumed[amount] <= capacity[amount] for amount in capacity]
        if not (any(within) if isinstance(block.capacity, RenyiDP) else all(within)):
            yield f"block {name} gave more than its capacity: {acquired} and {consumed} of {capacity}"
        elif any(sum(part[amount] for part in _parts(block)) != capacity[amount] for amount in capacity):
            yield f"the parts of block {name} are not its capacity: {_parts(block)}"
        if acquired != _total(look, name, block.capacity, "reserved"):
            yield f"block {name} has {acquired} acquired, which is not what reserved claims hold"
        if consumed != _total(look, name, block.capacity, "armed", "spent"):
            yield f"block {name} has {consumed} consumed, which is not what armed and spent claims paid"
        if not 0 <= block.share <= 1:
            yield f"block {name} has unlocked {block.share}"


def _parts(block: BlockState) -> list[Amounts]:
    return [part.amounts for part in (block.locked, block.unlocked, block.acquired, block.consumed)]


def _total(look: Look, block: str, like: Budget, *states: str) -> Amounts:
    total = dict.fromkeys(like.amounts, Fraction(0))
    for number, state in look.states.items():
        if state in states and block in look.held[number]:
            for name, amount in look.held[number][block].items():
                total[name] += amount
    return total


def _changes(was: Look, now: Look) -> Iterator[str]:
    for name, before in was.blocks.items():
        after = now.blocks.get(name)
        if after is None or after.capacity != before.capacity or after.share < before.share:
            yield f"block {name} was {before}, is {after}"
        elif any(amount < before.consumed.amounts[of] for of, amount in after.consumed.amounts.items()):
            yield f"block {name} had consumed {before.consumed}, now {after.consumed}"
    for number, state in was.states.items():
        if now.states.get(number) not in _NEXT[state]:
            yield f"claim {number} was {state}, is {now.states.get(number)}"


def _held(blocks: str, price: str, held: str | None) -> Mapping[str, Amounts]:
    return _read(blocks, price if held is None else held)


@lru_cache(maxsize=2**14)
def _read(blocks: str, text: str) -> Mapping[str, Amounts]:
    found = json.loads(text)
    each = found.get("each") or dict.fromkeys(json.loads(blocks), found)
    return {
        block: {name: Fraction(amount) for name, amount in amounts.items() if name != "kind"}
        for block, amounts in each.items()
    }
