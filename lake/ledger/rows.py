"""Claims as rows of a ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache

from sqlalchemy import Select, bindparam, exists, insert, literal_column, null, or_, select, update

from dp.accounting.budget import Budget, budget_from_json, budget_to_json
from dp.accounting.ledger import Claim, Entry, EntryState
from dp.errors import InvalidArgument
from lake.ledger.amounts import iso, read_budget, write_budget
from lake.ledger.balances import Demand, once_each
from lake.ledger.copies import changed, made_of
from lake.ledger.schema import HOLDING, claims, releases
from lake.ledger.store import Row, Transaction

__all__ = [
    "ClaimRow",
    "Request",
    "all_claims",
    "check_request",
    "claim_numbered",
    "claim_requested",
    "claims_within",
    "demand_text",
    "drop_noised",
    "expect_claims",
    "expired_claims",
    "grant_claims",
    "insert_claims",
    "keep_noised",
    "most_of",
    "new_row",
    "open_claims",
    "read_demand",
    "read_demands",
    "resumable_claim",
    "save_claim",
]


@dataclass(frozen=True)
class Request:
    """What a claim asks for.

    Attributes:
        request_id: makes it idempotent.
        lease_seconds: how long it holds unless renewed.
        demand: how much of which block; nothing before that is chosen.
        timeout_seconds: how long it may wait to be granted; 0 for now or never.
        owner: who asks, for the record.
        weight: of claims that compete; at least 1.
        parent: the number of the claim whose budget it consumes; None where it takes from the blocks.
        table: what is read, for the record; so are `data_version`, `run_id` and `purpose`.
        release_key: names the release that is paid for.
        disclosure: the name of what is opened exactly; "" for what is noised.
    """

    request_id: str
    lease_seconds: float
    demand: Demand = field(default_factory=dict)
    timeout_seconds: float = 0.0
    owner: str = ""
    weight: int = 1
    parent: int | None = None
    table: str = ""
    data_version: str = ""
    release_key: str = ""
    run_id: str = ""
    purpose: str = ""
    disclosure: str = ""

    @property
    def content(self) -> tuple[object, ...]:
        """What a repeated request must repeat besides its demand; how long it waits and holds may differ."""
        asked = (self.owner, self.weight, self.parent, self.table, self.data_version)
        return (*asked, self.release_key, self.run_id, self.purpose, self.disclosure)

    def asking(self, demand: Demand) -> Request:
        """The same for these blocks."""
        return changed(self, {"demand": demand})


@dataclass(frozen=True)
class ClaimRow:
    """One claim as it stands.

    Attributes:
        number: names it in this ledger.
        request: what it asked for.
        held: what it holds or has spent; less than it asked for once claims within it took their parts.
        state: where it is in its life.
        fence: grows with every renewal.
        lease_expires_at: in seconds since the epoch, like the times below.
        deadline_at: until when it waits.
        created_at: when it was made.
        updated_at: when its state or lease last changed.
    """

    number: int
    request: Request
    held: Demand
    state: EntryState
    fence: int
    lease_expires_at: float
    deadline_at: float | None
    created_at: float
    updated_at: float

    def overdue(self, now: float) -> bool:
        """Whether its time is over, so that the next transaction ends it."""
        return self.state in ("waiting", "reserved") and self.lease_expires_at <= now

    def ticket(self, ledger_id: str) -> Claim:
        """What its holder shows."""
        return Claim(
            claim_id=str(self.number),
            ledger_id=ledger_id,
            request_id=self.request.request_id,
            price=most_of(self.request.demand),
            release_key=self.request.release_key,
            fence=self.fence,
            lease_expires_at=self.lease_expires_at,
            lease_seconds=self.request.lease_seconds,
        )

    def entry(self) -> Entry:
        """The line that people see."""
        request = self.request
        return Entry(
            claim_id=str(self.number),
            run_id=request.run_id,
            table=request.table,
            data_version=request.data_version,
            purpose=request.purpose,
            price=most_of(request.demand),
            state=self.state,
            created_at=iso(self.created_at),
            updated_at=iso(self.updated_at),
            release_key=request.release_key,
            disclosure=request.disclosure,
            blocks=tuple(request.demand),
            owner=request.owner,
            waits_until=iso(self.deadline_at) if self.state == "waiting" and self.deadline_at is not None else "",
        )


_MOST_SECONDS = 1e15  # thirty million years
_PLAIN = (int, float)  # a union of them would be made anew for every debit

# In the order in which `_read` takes them.
_COLUMNS = [column for name, column in claims.c.items() if name != "noised"]
_NAMES = [column.name for column in _COLUMNS]
_ALL: Select[Row] = select(*_COLUMNS).order_by(claims.c.number)
_NUMBERED = _ALL.where(claims.c.number == bindparam("number"))
_REQUESTED = _ALL.where(claims.c.request_id == bindparam("request_id"))
# a driver gives what is no part of the text anew for each of many grants
_GRANT = (
    update(claims)
    .where(claims.c.number == bindparam("claim"), claims.c.state == literal_column("'waiting'"))
    .values(state=literal_column("'reserved'"), lease_expires_at=bindparam("now") + claims.c.lease_seconds)
    .values(deadline_at=null(), updated_at=bindparam("now"))
)
_WITHIN = _ALL.where(claims.c.parent == bindparam("parent"))
_OPEN = _ALL.where(claims.c.state == bindparam("state"))
# children before their parents, so that what they held goes back with the parent's
_EXPIRED = (
    select(*_COLUMNS)
    .where(or_(*(claims.c.state == state for state in HOLDING)))
    .where(claims.c.lease_expires_at <= bindparam("now"))
    .order_by(claims.c.number.desc())
)
_INSERT = insert(claims).values({name: bindparam(name) for name in _NAMES})
_KEEP_NOISED = update(claims).where(claims.c.number == bindparam("claim")).values(noised=bindparam("noised"))
_DROP_NOISED = (
    update(claims)
    .where(claims.c.release_key == bindparam("release_key"), claims.c.noised.is_not(None))
    .values(noised=None)
)
_RESUMABLE = (
    select(claims.c.noised, *_COLUMNS)
    .where(claims.c.release_key == bindparam("release_key"), claims.c.noised.is_not(None))
    .where(~exists().where(releases.c.release_key == claims.c.release_key))
    .order_by(claims.c.number.desc())
    .limit(1)
)
_SAVED = ("held", "state", "fence", "lease_expires_at", "deadline_at", "updated_at")
_SAVE = (
    update(claims)
    .where(claims.c.number == bindparam("claim"), claims.c.state == bindparam("was"))
    .where(claims.c.fence == bindparam("fenced"))
    .values({name: bindparam(name) for name in _SAVED})
)


def all_claims(tx: Transaction) -> list[ClaimRow]:
    """Every claim, oldest first."""
    return [_read(row) for row in tx.rows(_ALL)]


def open_claims(tx: Transaction, state: EntryState) -> list[ClaimRow]:
    """Every claim in this state, oldest first."""
    return [_read(row) for row in tx.rows(_OPEN, state=state)]


def expired_claims(tx: Transaction) -> list[ClaimRow]:
    """Every claim whose lease or patience is over, newest first."""
    if tx.start.next_end > tx.now:
        return []
    return [_read(row) for row in tx.rows(_EXPIRED, now=tx.now)]


def check_request(request: Request) -> None:
    """Check what depends on nothing but the request.

    Raises:
        InvalidArgument: an empty id, a lease or a time to wait that cannot be, or a weight that is no count.
    """
    if not request.request_id:
        remedy = "give a random name, the same one when a request is repeated"
        raise InvalidArgument("request_id", request.request_id, remedy)
    if not (_are_seconds(request.lease_seconds) and request.lease_seconds > 0):
        raise InvalidArgument("lease_seconds", request.lease_seconds, "give a finite number of seconds above zero")
    if not (_are_seconds(request.timeout_seconds) and request.timeout_seconds >= 0):
        raise InvalidArgument("timeout_seconds", request.timeout_seconds, "give a finite number of seconds, 0 for now")
    if isinstance(request.weight, bool) or not isinstance(request.weight, int) or not 1 <= request.weight <= 10**6:
        raise InvalidArgument("weight", request.weight, "give a whole number from 1 to 1000000")


def _are_seconds(value: object) -> bool:
    """Whether every store takes it as a number of seconds: one that Python itself makes, and no more than ages."""
    if type(value) is float:  # as in every post
        return abs(value) < _MOST_SECONDS
    return isinstance(value, _PLAIN) and not isinstance(value, bool) and abs(value) < _MOST_SECONDS


def claims_within(tx: Transaction, number: int) -> list[ClaimRow]:
    """The claims that took their budget out of another, oldest first."""
    return [_read(row) for row in tx.rows(_WITHIN, parent=number)]


def expect_claims(tx: Transaction, request_id: str | None = None, number: int | None = None) -> None:
    """Say which claim will be looked at."""
    if request_id is not None:
        tx.ahead(_REQUESTED, request_id=request_id)
    if number is not None:
        tx.ahead(_NUMBERED, number=number)


def claim_numbered(tx: Transaction, number: int) -> ClaimRow | None:
    """The claim of that number."""
    row = tx.row(_NUMBERED, number=number)
    return None if row is None else _read(row)


def claim_requested(tx: Transaction, request_id: str) -> ClaimRow | None:
    """The claim that was made by that request."""
    row = tx.row(_REQUESTED, request_id=request_id)
    return None if row is None else _read(row)


def new_row(number: int, request: Request, demand: Demand, state: EntryState, now: float) -> ClaimRow:
    """A new claim; one that waits holds at most until its deadline."""
    lease, deadline = _ends(request, state == "waiting", now)
    row = {
        "number": number,
        "request": request if request.demand is demand else request.asking(demand),
        "held": demand,
        "state": state,
        "fence": 1,
        "lease_expires_at": lease,
        "deadline_at": deadline,
        "created_at": now,
        "updated_at": now,
    }
    return made_of(ClaimRow, row)


def insert_claims(tx: Transaction, requests: Iterable[Request], state: EntryState) -> list[int]:
    """Write new claims, as `new_row` has them; their numbers."""
    waits, now, asked = state == "waiting", tx.now, once_each(_asked)
    numbers: list[int] = []
    rows = []
    for request in requests:
        lease, deadline = _ends(request, waits, now)
        numbers.append(tx.new_claim(waits))
        rows.append(
            {
                "number": numbers[-1],
                **asked(request.demand),
                "request_id": request.request_id,
                "parent": request.parent,
                "held": None,
                "owner": request.owner,
                "weight": request.weight,
                "table_name": request.table,
                "data_version": request.data_version,
                "release_key": request.release_key,
                "run_id": request.run_id,
                "purpose": request.purpose,
                "disclosure": request.disclosure,
                "state": state,
                "fence": 1,
                "lease_seconds": request.lease_seconds,
                "lease_expires_at": lease,
                "deadline_at": deadline,
                "created_at": now,
                "updated_at": now,
            }
        )
    tx.write_each(_INSERT, rows)
    return numbers


def _ends(request: Request, waits: bool, now: float) -> tuple[float, float | None]:
    """When a new claim's lease ends, and until when it waits: one that does holds at most so long."""
    if not waits:
        return now + request.lease_seconds, None
    return now + min(request.lease_seconds, request.timeout_seconds), now + request.timeout_seconds


def save_claim(tx: Transaction, was: ClaimRow, becomes: ClaimRow) -> None:
    """Write what changed, provided that the row is still as it was."""
    saved = {name: getattr(becomes, name) for name in _SAVED}
    held, demand = becomes.held, becomes.request.demand
    saved["held"] = None if held is demand or held == demand else demand_text(held)
    tx.write_one(_SAVE, claim=was.number, was=was.state, fenced=was.fence, **saved)


def keep_noised(tx: Transaction, number: int, noised: bytes) -> None:
    """Store the vector that a claim pays for."""
    tx.write(_KEEP_NOISED, claim=number, noised=noised)


def drop_noised(tx: Transaction, release_key: str) -> None:
    """Forget the vectors under a key: its release is stored."""
    tx.write(_DROP_NOISED, release_key=release_key)


def resumable_claim(tx: Transaction, release_key: str) -> tuple[ClaimRow, bytes] | None:
    """The newest paid claim under a key and its vector; None if there is none, or a release is stored."""
    row = tx.row(_RESUMABLE, release_key=release_key)
    return None if row is None else (_read(row[1:]), bytes(row[0]))


def grant_claims(tx: Transaction, numbers: Iterable[int]) -> None:
    """waiting -> reserved, with fresh leases; reads nothing, for a scheduler grants many.

    In the order of their numbers, as a file has them: so that each of its pages is touched once.
    """
    tx.write_one_each(_GRANT, [{"claim": number, "now": tx.now} for number in sorted(numbers)])


def most_of(demand: Demand) -> Budget:
    """The greatest amounts that it asks of any block."""
    first, *others = demand.values()
    if not others:
        return first
    amounts = first.amounts
    for other in others:
        amounts = {name: max(amount, other.amounts[name]) for name, amount in amounts.items()}
    return first.of_amounts(amounts)


def demand_text(demand: Demand) -> str:
    """One amount where it is the same for every block, or each block's own."""
    first, *others = demand.values()
    if all(other == first for other in others):
        return write_budget(first)
    return json.dumps({"each": {block: budget_to_json(amount) for block, amount in demand.items()}})


@lru_cache(maxsize=256)
def read_demand(blocks: str, text: str) -> Demand:
    """What `demand_text` wrote of a list of blocks; the same object for the same text."""
    return _demand(blocks, text, json.loads)


def read_demands(asked: Iterable[tuple[str, str]]) -> list[Demand]:
    """The same for many: lists of blocks that are alike are read once."""
    listed = cache(json.loads)
    return [_demand(blocks, text, listed) for blocks, text in asked]


def _demand(blocks: str, text: str, listed: Callable[[str], list[str]]) -> Demand:
    if not text.startswith('{"each"'):
        return dict.fromkeys(listed(blocks), read_budget(text))
    return {block: budget_from_json(amounts) for block, amounts in json.loads(text)["each"].items()}


def _asked(demand: Demand) -> dict[str, object]:
    return {"blocks": json.dumps(list(demand)), "price": demand_text(demand)}


def _read(row: Row) -> ClaimRow:
    number, request_id, parent, blocks, price, held, owner, weight, *more = row
    table, data_version, release_key, run_id, purpose, disclosure, state, fence, *times = more
    lease_seconds, lease_expires_at, deadline_at, created_at, updated_at = times
    demand = read_demand(blocks, price)
    request = {
        "request_id": request_id,
        "lease_seconds": lease_seconds,
        "demand": demand,
        "timeout_seconds": 0.0 if deadline_at is None else deadline_at - created_at,
        "owner": owner,
        "weight": weight,
        "parent": parent,
        "table": table,
        "data_version": data_version,
        "release_key": release_key,
        "run_id": run_id,
        "purpose": purpose,
        "disclosure": disclosure,
    }
    claim = {
        "number": number,
        "request": made_of(Request, request),
        "held": demand if held is None else read_demand(blocks, held),
        "state": state,
        "fence": fence,
        "lease_expires_at": lease_expires_at,
        "deadline_at": deadline_at,
        "created_at": created_at,
        "updated_at": updated_at,
    }
    return made_of(ClaimRow, claim)
