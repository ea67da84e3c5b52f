"""What tests of claims share: a table laid out in days, claims that nobody sleeps for, and what a day has left."""

from __future__ import annotations

from dp.accounting.budget import PureDP
from dp.accounting.ledger import BudgetLedger, Claim
from lake.blocks.rules import Blocks
from lake.blocks.selectors import TIME, Selector
from lake.ledger import Ledger
from lake.ledger.rows import ClaimRow, Request
from lake.ledger.selection import Wanted

__all__ = ["DAYS", "DAY_SECONDS", "LAST", "VISITS", "asked", "parts", "pay", "states"]

DAY_SECONDS = 86_400
VISITS = Blocks.every("1 day", "admitted", since="1970-01-08", name="visits")
DAYS = tuple(f"visits/1970-01-{day:02}" for day in range(8, 13))
"""Those that have begun when a test begins: its clock starts on the 12th."""

LAST = TIME == "1970-01-12"


def asked(
    ledger: Ledger,
    request_id: str,
    epsilon: str,
    selector: Selector = LAST,
    *,
    timeout_seconds: float = 60,
    lease_seconds: float = 30,
    weight: int = 1,
) -> ClaimRow:
    """A claim as it stands when it was made, and may wait: `ledger.poll` looks again."""
    request = Request(request_id, lease_seconds, timeout_seconds=timeout_seconds, weight=weight, table=VISITS.name)
    return ledger.ask(request, Wanted(VISITS, selector, PureDP(epsilon)))


def pay(claim: BudgetLedger, request_id: str, epsilon: str, *blocks: str, layout: str = VISITS.fingerprint) -> Claim:
    """What a query does first: take its price out of a claim, or of a ledger."""
    return claim.reserve(
        request_id=request_id,
        price=PureDP(epsilon),
        table="visits",
        data_version="t@3",
        release_key=f"key of {request_id}",
        run_id="run",
        purpose="a test",
        lease_seconds=30,
        blocks=blocks,
        layout=layout if blocks else "",
    )


def parts(ledger: Ledger, block: str) -> tuple[str, str, str, str]:
    """Locked, unlocked, acquired and consumed epsilon of a block."""
    (state,) = (state for state in ledger.blocks() if state.name == block)
    amounts = (state.locked, state.unlocked, state.acquired, state.consumed)
    locked, unlocked, acquired, consumed = (str(amount.amounts["epsilon"]) for amount in amounts)
    return locked, unlocked, acquired, consumed


def states(ledger: Ledger) -> list[str]:
    """Of every claim, oldest first; the first of all is the layout's own."""
    return [entry.state for entry in ledger.entries()]
