"""What a ledger shall do, on plain dictionaries of fractions. Which waiting claims a scheduler grants, it is told.

Every method is one transition. It raises what the ledger raises where nothing at all was changed, and returns the
error's class where the ledger refuses after it changed something (leases that ran out, a claim that failed).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from benchmarks._ledger_audit import Amounts
from dp.errors import BudgetExceeded, InvalidArgument
from lake.errors import ApprovalNeeded, ClaimLost, LeaseExpired, LedgerError

__all__ = ["PERIOD_SECONDS", "Asked", "Model", "Refusal"]

PERIOD_SECONDS = 7

Refusal = type[Exception] | None


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        request_id: names it.
        demand: of which block how much.
        lease_seconds: how long it holds.
        timeout_seconds: how long it may wait.
        parent: the claim that it takes from.
        key: the release that it pays for.
    """

    request_id: str
    demand: Mapping[str, Amounts]
    lease_seconds: int
    timeout_seconds: int = 0
    parent: int | None = None
    key: str = ""


@dataclass
class ModelClaim:
    """A claim; see `lake.ledger.rows.ClaimRow`."""

    asked: Asked
    held: dict[str, Amounts]
    state: str
    lease_until: float
    waits_until: float = 0.0
    fence: int = 1


@dataclass
class ModelBlock:
    """A block; its sums are those of the claims."""

    capacity: Amounts
    share: Fraction
    shared_at: float


@dataclass
class Model:
    """A ledger.

    Attributes:
        capacity: of the whole.
        any_order: whether one amount that fits is enough, as for Renyi budgets.
        now: seconds since the epoch.
        unlocking: ("at once", 0), ("arrivals", N), ("time", L), or ("periods", L) of PERIOD_SECONDS each.
        leaves_nobody: whether the scheduler grants all that fits.
        starts: of the blocks that are laid out, when each begins.
        laid_out_at: when they were.
        block_capacity: of each of these.
        unasked: what needs no approval; None: nothing does.
        approved: by release key.
        releases: by release key.
        noised: by claim, the vector that is kept.
    """

    capacity: Amounts
    any_order: bool
    now: float
    unlocking: tuple[str, int] = ("at once", 0)
    leaves_nobody: bool = True
    starts: dict[str, float] = field(default_factory=dict)
    laid_out_at: float = 0.0
    block_capacity: Amounts = field(default_factory=dict)
    unasked: Amounts | None = None
    approved: dict[str, Amounts] = field(default_factory=dict)
    releases: dict[str, bytes] = field(default_factory=dict)
    noised: dict[int, bytes] = field(default_factory=dict)
    claims: dict[int, ModelClaim] = field(default_factory=dict)
    blocks: dict[str, ModelBlock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.blocks["whole"] = ModelBlock(self.capacity, Fraction(1), self.now)

    # --- sums

    def total(self, block: str, *states: str) -> dict[str, Fraction]:
        """What the claims in these states hold of a block."""
        held = [claim.held[block] for claim in self.claims.values() if claim.state in states and block in claim.held]
        return {name: sum((one[name] for one in held), Fraction(0)) for name in self.capacity}

    def room(self, block: str, *, locked: bool = False, held: bool = False) -> dict[str, Fraction]:
        """What is unlocked of a block; with what is locked; with what others hold."""
        of, used = self.blocks[block], self.total(block, "armed", "spent", *(() if held else ("reserved",)))
        return {name: of.capacity[name] * (1 if locked else of.share) - used[name] for name in used}

    def enough(self, amounts: Amounts, room: Amounts) -> bool:
        """Whether it fits."""
        fits = [amount <= room[name] for name, amount in amounts.items()]
        return any(fits) if self.any_order else all(fits)

    def fits(self, demand: Mapping[str, Amounts]) -> bool:
        """Whether every block has so much unlocked."""
        return all(self.enough(amounts, self.room(block)) for block, amounts in demand.items())

    def retired(self, block: str) -> bool:
        """Whether no amount of epsilon is left of it, at any order."""
        left = self.room(block, locked=True, held=True)
        return not any(amount > 0 for name, amount in left.items() if name != "delta")

    # --- transitions

    def look(self) -> Refusal:
        """End what has run out: newest first, so children before their parents."""
        for number in sorted(self.claims, reverse=True):
            claim = self.claims[number]
            if claim.lease_until > self.now:
                continue
            if claim.state == "reserved":
                self._give_back(claim)
            elif claim.state == "waiting":
                claim.state = "failed"
        return None

    def reopen(self) -> Refusal:
        """What is armed counts as spent."""
        self.look()
        for claim in self.claims.values():
            claim.state = "spent" if claim.state == "armed" else claim.state
        return None

    def ask(self, asked: Asked, states: Mapping[int, str]) -> Refusal:
        """A claim, new or asked for again; `states` are the real ones afterwards."""
        self.look()
        same = [claim for claim in self.claims.values() if claim.asked.request_id == asked.request_id]
        if same:
            return self._repeated(same[0], asked)
        self._make(asked.demand)
        if asked.parent is not None:
            self._take(asked, asked.parent)
            return self._add(asked, "reserved")
        if not all(
            self.enough(amounts, self.room(block, locked=True, held=True)) for block, amounts in asked.demand.items()
        ):
            raise BudgetExceeded("never")
        self._unlock(asked.demand, arrivals=1)
        alone = not any(claim.state == "waiting" for claim in self.claims.values())
        if alone and self.fits(asked.demand):
            return self._add(asked, "reserved")
        if len(self.claims) + 1 not in states:
            assert alone
            assert asked.timeout_seconds == 0
            assert self.unlocking[0] != "arrivals"
            raise BudgetExceeded("not now")
        self._add(asked, "waiting")
        self._pass(states)
        mine = self.claims[len(self.claims)]
        if mine.state == "waiting" and asked.timeout_seconds == 0:
            mine.state = "failed"
        return BudgetExceeded if mine.state == "failed" else None

    def poll(self, number: int, states: Mapping[int, str]) -> Refusal:
        """A waiting claim is heard of, and the scheduler looks."""
        self.look()
        claim = self.claims[number]
        if claim.state == "waiting":
            claim.lease_until = min(self.now + claim.asked.lease_seconds, claim.waits_until)
            self._pass(states)
        return None

    def renew(self, number: int, fence: int) -> Refusal:
        """A running lease starts afresh."""
        claim = self._held(number, fence, "reserved")
        claim.fence += 1
        claim.lease_until = self.now + claim.asked.lease_seconds
        return None

    def arm(self, number: int, fence: int, noised: bytes) -> Refusal:
        """Paid for good, if nobody has to agree or somebody has."""
        claim = self._held(number, fence, "reserved")
        nothing = dict.fromkeys(self.capacity, Fraction(-1))
        agreed = [self.unasked or nothing, self.approved.get(claim.asked.key, nothing)]
        if self.unasked is not None and not (
            all(_within(amounts, agreed[0]) for amounts in claim.held.values())
            or all(_within(amounts, agreed[1]) for amounts in claim.held.values())
        ):
            raise ApprovalNeeded("model", "nobody agreed", "")
        claim.state = "armed"
        self.noised[number] = noised
        return None

    def commit(self, number: int, fence: int, release: bytes | None) -> Refusal:
        """Closed; the first release under a key stays."""
        claim = self._held(number, fence, "armed", "spent")
        claim.state = "spent"
        if release is not None:
            self.releases.setdefault(claim.asked.key, release)
            for other in [other for other in self.noised if self.claims[other].asked.key == claim.asked.key]:
                del self.noised[other]
        return None

    def release(self, number: int, fence: int) -> Refusal:
        """Given back, or given up."""
        claim = self._held(number, fence, "waiting", "reserved", "released", "failed")
        if claim.state == "reserved":
            self._give_back(claim)
        elif claim.state == "waiting":
            claim.state = "failed"
        return None

    def lay_out(self, starts: Mapping[str, float], capacity: Amounts) -> Refusal:
        """Blocks of one more table, paid by the whole once."""
        self.look()
        if not starts.keys() <= self.starts.keys():
            if not self.enough(capacity, self.room("whole", locked=True)):
                raise BudgetExceeded("the whole has less")
            self._add(Asked("layout", {"whole": capacity}, 0), "spent")
            self.starts.update(starts)
            self.laid_out_at = self.now
            self.block_capacity = capacity
        return None

    def schedule(self, unlocking: tuple[str, int], *, leaves_nobody: bool) -> Refusal:
        """Another scheduler, from now on."""
        self.look()
        self._unlock(self.blocks, arrivals=0)  # the time until now counts under the rule that ends
        for block in self.blocks.values():
            block.shared_at = max(block.shared_at, self._counted_until() / 1000)
        self.unlocking, self.leaves_nobody = unlocking, leaves_nobody
        return None

    def require_approval(self, above: Amounts | None) -> Refusal:
        """What goes unasked, from now on."""
        self.look()
        self.unasked = above
        return None

    def approve(self, number: int) -> Refusal:
        """The steward agrees to a price, for its release key."""
        self.look()
        claim = self.claims[number]
        if not claim.asked.key:
            raise LedgerError("model", "pays for no release", "")
        prices = list(claim.asked.demand.values())
        self.approved[claim.asked.key] = {name: max(price[name] for price in prices) for name in self.capacity}
        return None

    # --- what they share

    def _held(self, number: int, fence: int, *states: str) -> ModelClaim:
        claim = self.claims.get(number)
        if claim is None or claim.fence > fence:
            raise ClaimLost("model", "another's", "")
        over = claim.lease_until <= self.now and claim.state in ("reserved", "released")
        if over and "released" not in states:
            raise LeaseExpired("model", "too late", "")
        if claim.state not in states:
            raise ClaimLost("model", claim.state, "")
        return claim

    def _repeated(self, claim: ModelClaim, asked: Asked) -> Refusal:
        was = claim.asked
        if (was.demand, was.parent, was.key) != (asked.demand, asked.parent, asked.key):
            return InvalidArgument
        return ClaimLost if claim.state in ("released", "failed") else None

    def _make(self, names: Mapping[str, object]) -> None:
        for name in names:
            if name == "whole" or name in self.blocks:
                continue
            if name not in self.starts:
                raise LedgerError("model", "no layout", "")
            if self.starts[name] > self.now:
                raise InvalidArgument("blocks", name, "not due")
            since = max(self.starts[name], self.laid_out_at)
            milliseconds = max(self._counted_until() - round(since * 1000), 0)
            share = min(self._opened(milliseconds, arrivals=0), Fraction(1))
            self.blocks[name] = ModelBlock(self.block_capacity, share, since + milliseconds / 1000)

    def _take(self, asked: Asked, number: int) -> None:
        parent = self._living(number)
        if parent is None:
            raise ClaimLost("model", "its parent has ended", "")
        for block, amounts in asked.demand.items():
            if block not in parent.held:
                raise LedgerError("model", "not its parent's", "")
            if not _within(amounts, parent.held[block]):
                raise BudgetExceeded("its parent has less")
        for block, amounts in asked.demand.items():
            parent.held[block] = {name: left - amounts[name] for name, left in parent.held[block].items()}

    def _add(self, asked: Asked, state: str) -> Refusal:
        waits = state == "waiting"
        lease = min(asked.lease_seconds, asked.timeout_seconds) if waits else asked.lease_seconds
        claim = ModelClaim(asked, dict(asked.demand), state, self.now + lease, self.now + asked.timeout_seconds)
        self.claims[len(self.claims) + 1] = claim
        return None

    def _counted_until(self) -> int:
        """In milliseconds: time counts until now, or until the last period was over."""
        whole = 1000 * PERIOD_SECONDS if self.unlocking[0] == "periods" else 1
        return math.floor(self.now * 1000) // whole * whole

    def _unlock(self, names: Mapping[str, object], *, arrivals: int) -> None:
        for name in names:
            block = self.blocks[name]
            milliseconds = max(self._counted_until() - round(block.shared_at * 1000), 0)
            share = min(block.share + self._opened(milliseconds, arrivals), Fraction(1))
            if share > block.share:
                block.share = share
                block.shared_at += milliseconds / 1000

    def _opened(self, milliseconds: int, arrivals: int) -> Fraction:
        """What time and arrivals open of a block, under the rule there is."""
        rule, number = self.unlocking
        return {
            "at once": Fraction(1),
            "arrivals": Fraction(arrivals, max(number, 1)),
            "time": Fraction(milliseconds, 1000 * max(number, 1)),
            "periods": Fraction(milliseconds, 1000 * max(number, 1)),
        }[rule]

    def _pass(self, states: Mapping[int, str]) -> None:
        """The scheduler looks: whom it granted must have fitted, and who waits on must not fit."""
        waiting = {number: claim for number, claim in self.claims.items() if claim.state == "waiting"}
        self._unlock({block: None for claim in waiting.values() for block in claim.held}, arrivals=0)
        granted = [claim for number, claim in waiting.items() if states[number] == "reserved"]
        for claim in granted:
            claim.state = "reserved"
            claim.lease_until = self.now + claim.asked.lease_seconds
        nothing = dict.fromkeys(self.capacity, Fraction(0))
        assert all(self.enough(nothing, self.room(block)) for claim in granted for block in claim.held)
        left = [claim for claim in waiting.values() if claim.state == "waiting"]
        assert not (self.leaves_nobody and any(self.fits(claim.held) for claim in left))

    def _living(self, number: int) -> ModelClaim | None:
        claim = self.claims.get(number)
        return claim if claim and claim.state == "reserved" and claim.lease_until > self.now else None

    def _give_back(self, claim: ModelClaim) -> None:
        claim.state = "released"
        parent = None if claim.asked.parent is None else self._living(claim.asked.parent)
        if parent is not None:
            for block, amounts in claim.held.items():
                parent.held[block] = {name: left + amounts[name] for name, left in parent.held[block].items()}


def _within(amounts: Amounts, room: Amounts) -> bool:
    return all(amount <= room[name] for name, amount in amounts.items())
