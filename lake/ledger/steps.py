"""Steps of claims that a store takes in one call (`steps.sql`), where nothing stands in their way."""

from __future__ import annotations

import json
from functools import lru_cache

from dp.accounting.ledger import Claim
from lake.ledger.rows import ClaimRow, Request, new_row
from lake.ledger.selection import Choice, Named
from lake.ledger.store import Post, Store

__all__ = ["armed_at_once", "claimed_at_once", "spent_at_once"]


def claimed_at_once(store: Store, post: Post | None, request: Request, choice: Choice) -> ClaimRow | None:
    """A new claim, if it is one that could be posted: on blocks that are named; None: nothing was done."""
    if not store.has_steps or post is None or not isinstance(choice, Named):
        return None
    _, names, price, layout, *fields = post.content
    # the fields of a post are in the order of the procedure's parameters
    made = store.at_once("claim", _listed(tuple(names)), price, layout, post.request_id, *fields)
    return None if made is None else new_row(int(made[1]), request, choice.demand, "reserved", made[0])


@lru_cache(maxsize=256)
def _listed(names: tuple[str, ...]) -> str:
    return json.dumps(list(dict.fromkeys(names)))


def armed_at_once(store: Store, claim: Claim, noised: bytes) -> bool:
    """reserved -> armed; whether that was done."""
    return store.at_once("arm", _number(claim), claim.fence, noised) is not None


def spent_at_once(store: Store, claim: Claim, release: bytes | None, plan: str) -> bool:
    """armed -> spent, and the release stored; whether that was done."""
    return store.at_once("spend", _number(claim), claim.fence, release, plan) is not None


def _number(claim: Claim) -> int:
    """As far as it can be one: none has the number 0."""
    return int(claim.claim_id) if claim.claim_id.isdecimal() and len(claim.claim_id) < 10 else 0
