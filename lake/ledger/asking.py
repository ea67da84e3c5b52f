"""One request for a claim, as a store carries it out: alone, or by whoever is at work on the ledger."""

from __future__ import annotations

from dp.accounting.budget import Budget, same_kind
from dp.accounting.ledger import require_price
from dp.errors import InvalidArgument, SparkMpcError
from lake.errors import ClaimLost
from lake.ledger.balances import Demand
from lake.ledger.books import Books, open_books
from lake.ledger.posts import make_posted, make_with_posted, written_post
from lake.ledger.rows import ClaimRow, Request, claim_requested, new_row
from lake.ledger.selection import Choice, Named
from lake.ledger.settings import read_settings
from lake.ledger.store import Made, Posts, Transaction

__all__ = ["Asking"]


class Asking:
    """What `Ledger.ask` wants done; what comes of it is a claim, or what to tell a request that gets none.

    Attributes:
        post: what others see; None if its own process has to make it.
    """

    def __init__(self, name: str, ledger_id: str, capacity: Budget, request: Request, choice: Choice) -> None:
        """Ask a ledger.

        Args:
            name: the ledger's.
            ledger_id: the ledger's.
            capacity: the ledger's.
            request: all but the blocks and their amounts.
            choice: these.
        """
        self._name, self._ledger_id, self._capacity = name, ledger_id, capacity
        self._request, self._choice = request, choice
        self.post = written_post(ledger_id, capacity, request, choice)

    def look(self, tx: Transaction) -> ClaimRow | SparkMpcError | None:
        """The claim that this request made; None: none yet, or one that is overdue."""
        row = claim_requested(tx, self._request.request_id)
        if row is None or row.overdue(tx.now):
            return None  # `lead` gives back what is overdue before it looks
        return self._repeated(row) or row

    def lead(self, tx: Transaction, posts: Posts) -> tuple[ClaimRow | SparkMpcError, Made]:
        """Find the claim or make it, with those that others posted."""
        books = open_books(tx, self._name, self._request.request_id, self._choice.names)
        found = self.look(tx)
        outcome, made = self._made(books, posts) if found is None else (found, {})
        books.accounts.save()
        return outcome, made

    def serve(self, tx: Transaction, posts: Posts) -> Made:
        """Make claims that others posted."""
        books = open_books(tx, self._name)
        made = make_posted(books, posts(), self._ledger_id, self._check)
        books.accounts.save()
        return made

    def told(self, number: int, at: float) -> ClaimRow:
        """The claim that somebody else made of this post: it is reserved."""
        assert isinstance(self._choice, Named)  # otherwise there is no post
        return new_row(number, self._request, self._choice.demand, "reserved", at)

    def _made(self, books: Books, posts: Posts) -> tuple[ClaimRow | SparkMpcError, Made]:
        """A new claim, with those that others posted; or what to tell about one that failed, and is on record."""
        asked = self._request.asking(self._choice.chosen(books, read_settings(books.tx)))
        self._check(asked.demand, asked.disclosure)
        row, made = make_with_posted(books, asked, posts(), self._ledger_id, self._check)
        return books.shortage(asked.demand) if row.state == "failed" else row, made

    def _repeated(self, row: ClaimRow) -> SparkMpcError | None:
        """What to tell a request that was made before; None if its claim still stands."""
        request = self._request
        if row.request.content != request.content or not self._choice.could_be(row.request.demand):
            remedy = "was used for a request with other content: choose a new one"
            return InvalidArgument("request_id", request.request_id, remedy)
        if row.state in ("released", "failed"):
            problem = f"request {request.request_id!r} was {row.state}"
            return ClaimLost(self._name, problem, "reserve under a new request id")
        return None

    def _check(self, demand: Demand, disclosure: str) -> None:
        for price in demand.values():
            if not same_kind(price, self._capacity):
                kind = f"{type(self._capacity).__name__} prices only, each of {', '.join(self._capacity.amounts)}"
                raise InvalidArgument("price", price, f"ledger {self._name!r} takes {kind}")
            require_price(price, disclosure)
