"""What a claim asks for, as others read it: whoever is at work on the ledger makes it together with its own.

For others only what is surely granted is made. Everything else, refusals above all, its own process decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dp.errors import SparkMpcError
from lake.ledger.allocation import granted_at_once
from lake.ledger.amounts import read_budget, write_budget
from lake.ledger.books import Books
from lake.ledger.rows import Request, check_request
from lake.ledger.selection import Choice, Named
from lake.ledger.settings import read_settings
from lake.ledger.store import Post

__all__ = ["make_posted", "written_post"]

_OWN_AFFAIRS = ("demand", "parent", "disclosure")


def written_post(ledger_id: str, request: Request, choice: Choice) -> Post | None:
    """What others see: plain values of JSON; None for a claim that its own process has to make.

    Args:
        ledger_id: of the ledger that it is for.
        request: what is asked, all but the blocks.
        choice: these: only blocks that are named can be claimed for others.
    """
    if not isinstance(choice, Named) or request.parent is not None or request.disclosure:
        return None
    fields = {name: value for name, value in vars(request).items() if name not in _OWN_AFFAIRS}
    return Post(request.request_id, [ledger_id, choice.names, write_budget(choice.price), choice.layout, fields])


def make_posted(
    books: Books, posts: Iterable[Post], ledger_id: str, mine: str, check: Callable[[Request], None]
) -> None:
    """Make the claims that others posted, each as far as it is granted at once and without a doubt.

    Args:
        books: of the ledger.
        posts: what `written_post` made, of claims that are not there yet; some may be torn, or for another ledger.
        ledger_id: of the ledger.
        mine: the id of the request that was just dealt with.
        check: refuses what may not be asked of this ledger.
    """
    seen = {mine}
    for post in posts:
        try:
            request = _read(post, books, ledger_id)
            check_request(request)
            check(request)
        except (ValueError, TypeError, SparkMpcError):
            continue
        if request.request_id not in seen:
            granted_at_once(books, read_settings(books.tx), request)
            seen.add(request.request_id)


def _read(post: Post, books: Books, ledger_id: str) -> Request:
    whose, names, price, layout, fields = post.content
    if whose != ledger_id or not all(map(books.accounts.has, names)):
        raise ValueError("of another ledger, or blocks have to be made first")
    choice = Named(tuple(names), read_budget(price), layout)
    return Request(**fields, demand=choice.chosen(books, read_settings(books.tx)))
