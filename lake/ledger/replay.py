"""What an audit log says that a ledger must hold: its events carried out again, on nothing but themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dp.accounting.budget import Budget, budget_from_json
from dp.accounting.ledger import EntryState
from dp.errors import InvalidArgument
from lake.errors import LedgerError
from lake.ledger.amounts import added, nothing_like, taken
from lake.ledger.audit import BY_HAND, Event
from lake.ledger.balances import Demand
from lake.ledger.schema import WHOLE

__all__ = ["Replay", "ReplayedBlock", "ReplayedClaim"]

_BEFORE: Mapping[str, tuple[EntryState | None, ...]] = {
    "waiting": (None,),
    "reserved": (None, "waiting"),
    "armed": ("reserved",),
    "spent": ("armed",),
    "released": ("reserved",),
    "failed": ("waiting",),
}
"""The states from which a claim comes into a state; None: it is new."""

_AMOUNTS = ("capacity", "acquired", "consumed")

_Sum = Callable[[Budget, Budget], Budget]


@dataclass(frozen=True)
class ReplayedBlock:
    """A block as its events made it.

    Attributes:
        capacity: all that it gives.
        acquired: held by reserved claims.
        consumed: armed or spent.
        touched: the last event that moved any of it.
    """

    capacity: Budget
    acquired: Budget
    consumed: Budget
    touched: int


@dataclass(frozen=True)
class ReplayedClaim:
    """A claim as its events made it.

    Attributes:
        state: where it is in its life.
        asked: of which block how much it asked; None where it is older than the log.
        held: what is left of it.
        parent: the claim that it takes from.
        release_key: what it paid for, once it was armed.
        touched: the last event that was about it.
    """

    state: EntryState
    asked: Demand | None
    held: Demand
    parent: int | None
    release_key: str | None
    touched: int


@dataclass
class Replay:
    """A ledger's budget as its events leave it, one after another.

    Attributes:
        ledger: how errors name it.
        ledger_id: as the first event says; "" in a log that began with a migration.
        blocks: by name.
        claims: by number.
        layouts: by name, the event that laid it out.
        approvals: by release key, the last event that approved it.
        stored: by release key, the event that stored it.
        settings: the last event that changed them.
        migrated: whether there were claims before the first event.
    """

    ledger: str
    ledger_id: str = ""
    blocks: dict[str, ReplayedBlock] = field(default_factory=dict)
    claims: dict[int, ReplayedClaim] = field(default_factory=dict)
    layouts: dict[str, Event] = field(default_factory=dict)
    approvals: dict[str, Event] = field(default_factory=dict)
    stored: dict[str, Event] = field(default_factory=dict)
    settings: Event | None = None
    migrated: bool = False

    def apply(self, event: Event) -> None:
        """Carry out the next event.

        Raises:
            LedgerError: it cannot follow from those before it; names it.
        """
        kind = event.fields.get("event")
        handler = _HANDLERS.get(str(kind))
        if handler is None:
            raise self.fault(event.sequence, f"is of an unknown kind {kind!r}")
        try:
            handler(self, event)
        except (KeyError, TypeError, InvalidArgument):
            raise self.fault(event.sequence, f"({kind}) does not fit those before it") from None

    def fault(self, sequence: float, problem: str) -> LedgerError:
        """What to tell of an event that the rest of the ledger contradicts, or that is not there: number inf."""
        which = f"audit event {sequence}" if sequence < math.inf else "no audit event"
        return LedgerError(self.ledger, f"{which} {problem}", BY_HAND)

    def _created(self, event: Event) -> None:
        self.ledger_id = event.fields["ledger"]
        self._add_block(WHOLE, event, capacity=budget_from_json(event.fields["capacity"]))

    def _migrated(self, event: Event) -> None:
        self.migrated = True
        self._add_block(WHOLE, event, **{name: budget_from_json(event.fields[name]) for name in _AMOUNTS})

    def _block_made(self, event: Event) -> None:
        self._add_block(event.fields["block"], event, capacity=budget_from_json(event.fields["capacity"]))

    def _add_block(
        self,
        name: str,
        event: Event,
        *,
        capacity: Budget,
        acquired: Budget | None = None,
        consumed: Budget | None = None,
    ) -> None:
        if name in self.blocks:
            raise self.fault(event.sequence, f"makes block {name!r} again")
        nothing = nothing_like(capacity)
        self.blocks[name] = ReplayedBlock(capacity, acquired or nothing, consumed or nothing, event.sequence)

    def _laid_out(self, event: Event) -> None:
        self.layouts[event.fields["layout"]["name"]] = event

    def _set(self, event: Event) -> None:
        self.settings = event

    def _approved(self, event: Event) -> None:
        self.approvals[event.fields["release_key"]] = event

    def _stored(self, event: Event) -> None:
        self.stored[event.fields["release_key"]] = event

    def _reserved(self, event: Event) -> None:
        claim = self._step(event)
        self._move(claim.parent, claim.held, event, taken, added)

    def _armed(self, event: Event) -> None:
        claim = self._step(event, release_key=event.fields["release_key"])
        self._change(claim.held, event, acquired=taken, consumed=added)

    def _released(self, event: Event) -> None:
        claim = self._step(event)
        self._move(event.fields["within"], claim.held, event, added, taken)

    def _charged(self, event: Event) -> None:
        demand = _demand(event)
        self._claim_is_new(event)
        self.claims[event.fields["claim"]] = ReplayedClaim("spent", demand, demand, None, None, event.sequence)
        self._change(demand, event, consumed=added)

    def _step(self, event: Event, **changes: Any) -> ReplayedClaim:
        """The next state of a claim, which holds what the event says."""
        number, state, demand = event.fields["claim"], event.fields["event"], _demand(event)
        was = self.claims.get(number)
        before = None if was is None else was.state
        if was is None and self.migrated and None not in _BEFORE[state]:
            was = ReplayedClaim(before := _BEFORE[state][0], None, demand, None, None, 0)  # type: ignore[arg-type]
        if before not in _BEFORE[state]:
            raise self.fault(event.sequence, f"({state}) cannot follow {before or 'nothing'} for claim {number}")
        if was is None:
            was = ReplayedClaim(state, demand, demand, event.fields.get("within"), None, 0)
        if was.held != demand:
            raise self.fault(event.sequence, f"({state}) says {demand} of claim {number}, which held {was.held}")
        self.claims[number] = claim = replace(was, state=state, touched=event.sequence, **changes)
        return claim

    def _claim_is_new(self, event: Event) -> None:
        if event.fields["claim"] in self.claims:
            raise self.fault(event.sequence, f"makes claim {event.fields['claim']} again")

    def _move(self, parent: int | None, demand: Demand, event: Event, claims: _Sum, blocks: _Sum) -> None:
        """Between a claim and its parent, or between a claim and the blocks."""
        if parent is None:
            self._change(demand, event, acquired=blocks)
            return
        of = self.claims[parent]
        if of.state != "reserved":
            raise self.fault(event.sequence, f"is within claim {parent}, which is {of.state}")
        held = {**of.held, **{block: claims(of.held[block], amount) for block, amount in demand.items()}}
        self.claims[parent] = replace(of, held=held, touched=event.sequence)

    def _change(self, demand: Demand, event: Event, **sums: _Sum) -> None:
        for block, amount in demand.items():
            was = self.blocks[block]
            moved = {name: sum_(getattr(was, name), amount) for name, sum_ in sums.items()}
            self.blocks[block] = replace(was, touched=event.sequence, **moved)


_HANDLERS: Mapping[str, Callable[[Replay, Event], Any]] = {
    "created": Replay._created,
    "migrated": Replay._migrated,
    "laid out": Replay._laid_out,
    "block made": Replay._block_made,
    "settings": Replay._set,
    "approved": Replay._approved,
    "waiting": Replay._step,
    "reserved": Replay._reserved,
    "armed": Replay._armed,
    "spent": Replay._step,
    "released": Replay._released,
    "failed": Replay._step,
    "charged": Replay._charged,
    "stored": Replay._stored,
}


def _demand(event: Event) -> Demand:
    return {block: budget_from_json(amounts) for block, amounts in event.fields["demand"].items()}
