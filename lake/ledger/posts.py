"""What a claim asks for, as others read it: whoever is at work on the ledger makes it together with its own.

For others only what is surely granted is made. Everything else, refusals above all, its own process decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from operator import attrgetter
from typing import Any

from dp.accounting.budget import Budget, same_kind
from dp.errors import SparkMpcError
from lake.ledger.allocation import allocate, granted_at_once
from lake.ledger.amounts import read_budget, write_budget
from lake.ledger.balances import Demand
from lake.ledger.books import Books
from lake.ledger.copies import made_of
from lake.ledger.rows import ClaimRow, Request, check_request, new_row
from lake.ledger.selection import Choice, Named
from lake.ledger.settings import Settings, read_settings
from lake.ledger.store import Made, Post

__all__ = ["make_posted", "make_with_posted", "written_post"]

_TEXTS = ("owner", "table", "data_version", "release_key", "run_id", "purpose")
_NUMBERS = ("lease_seconds", "timeout_seconds", "weight")
_FIELDS = (*_TEXTS, *_NUMBERS)
_ASKED = (str, list, str, str)  # of which ledger, which blocks, the price of each, and by which layout
_KINDS = (*_ASKED, *(str,) * len(_TEXTS), float, float, int)

_Asked = tuple[str, Request]  # the secret of a post, and what it asks for

_texts_of = attrgetter(*_TEXTS)
_POSTED = {*_FIELDS, "request_id", "demand"}
_UNASKED = {name: value for name, value in vars(Request("", 0.0)).items() if name not in _POSTED}


def written_post(ledger_id: str, capacity: Budget, request: Request, choice: Choice) -> Post | None:
    """What others see: plain values of JSON; None for a claim that its own process has to make.

    Args:
        ledger_id: of the ledger that it is for.
        capacity: of the ledger: a price of another kind, or below zero, is for its own process to refuse.
        request: what is asked, all but the blocks.
        choice: these: only blocks that are named can be claimed for others.
    """
    if not isinstance(choice, Named) or request.parent is not None or request.disclosure:
        return None
    if not same_kind(choice.price, capacity) or any(part.numerator < 0 for part in choice.price.amounts.values()):
        return None
    asked = (ledger_id, choice.names, write_budget(choice.price), choice.layout)
    numbers = (float(request.lease_seconds), float(request.timeout_seconds), request.weight)
    return Post(request.request_id, [*asked, *_texts_of(request), *numbers])


def make_with_posted(
    books: Books,
    own: Request,
    posts: Iterable[Post],
    ledger_id: str,
    check: Callable[[Demand, str], None],
) -> tuple[ClaimRow, Made]:
    """Make a claim, as `allocate`, and those that others posted, as far as they are granted at once.

    Args:
        books: of the ledger.
        own: the claim.
        posts: what `written_post` made, of claims that are not there yet; some may be torn, or for another ledger.
        ledger_id: of the ledger.
        check: refuses a demand that may not be made of this ledger, for a disclosure or for "".

    Returns:
        The claim, and what was made of posts.

    Raises:
        BudgetExceeded: as `allocate`; then nothing was made.
    """
    settings = read_settings(books.tx)
    others = _acceptable(books, posts, ledger_id, check)
    others.pop(own.request_id, None)
    lot = granted_at_once(books, settings, [own, *(request for _, request in others.values())])
    if lot:
        return new_row(lot[0], own, own.demand, "reserved", books.tx.now), _numbers(others.values(), lot[1:])
    row = allocate(books, settings, own)
    return row, _made(books, settings, others.values())


def make_posted(books: Books, posts: Iterable[Post], ledger_id: str, check: Callable[[Demand, str], None]) -> Made:
    """Make claims that others posted, as `make_with_posted` does, and none of its own."""
    return _made(books, read_settings(books.tx), _acceptable(books, posts, ledger_id, check).values())


def _made(books: Books, settings: Settings, asked: Collection[_Asked]) -> Made:
    """All of them together, or one after the other as far as there is room."""
    lot = granted_at_once(books, settings, [request for _, request in asked])
    if lot:
        return _numbers(asked, lot)
    return {secret: number for secret, request in asked for number in granted_at_once(books, settings, [request])}


def _numbers(asked: Iterable[_Asked], numbers: Iterable[int]) -> Made:
    return {secret: number for (secret, _), number in zip(asked, numbers, strict=True)}


def _acceptable(
    books: Books, posts: Iterable[Post], ledger_id: str, check: Callable[[Demand, str], None]
) -> dict[str, _Asked]:
    """What can be made of posts, by request ids: of two for one request the later."""
    demands: dict[tuple[str, ...], Demand] = {}  # most ask for the same
    found = {}
    for post in posts:
        try:
            names, price, layout, values = _read(post, ledger_id)
            asked = (*names, price, layout)
            if asked not in demands:
                demand = _demand(books, Named(tuple(names), read_budget(price), layout))
                check(demand, "")
                demands[asked] = demand
            fields = dict(zip(_FIELDS, values, strict=True), request_id=post.request_id, demand=demands[asked])
            request = made_of(Request, {**_UNASKED, **fields})
            check_request(request)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, SparkMpcError):
            continue  # nothing was written yet, and whoever posted it asks by itself
        found[post.request_id] = (post.secret, request)
    return found


def _read(post: Post, ledger_id: str) -> tuple[list[str], str, str, list[Any]]:
    """Exactly what `written_post` writes: blocks, price, layout, and the values of `_FIELDS`.

    Raises:
        ValueError: anything else; many more where it is nothing like it.
    """
    if tuple(map(type, post.content)) != _KINDS:
        raise ValueError("not a post")
    whose, names, price, layout, *values = post.content
    if whose != ledger_id:
        raise ValueError("for another ledger")
    "".join((*names, *values[: len(_TEXTS)])).encode()  # an error where a name is no text, or one cannot be stored
    return names, price, layout, values


def _demand(books: Books, choice: Named) -> Demand:
    if not choice.names or not all(map(books.accounts.has, choice.names)):
        raise ValueError("blocks have to be made first")
    return choice.chosen(books, read_settings(books.tx))
