"""One private block: its name and its place along the dimensions."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Block"]


@dataclass(frozen=True)
class Block:
    """A piece of a table that pays for itself; made by `Blocks`.

    Attributes:
        name: canonical, as the ledger has it: "visits/2026-03-01", "patients/users-03-of-16" or both parts in a row.
        start: where its window of time begins, in seconds since 1970-01-01 UTC; None where time does not cut.
        end: where the window ends: the first second that is not in it.
        user_range: the number of its range of users, from 0; None where users are not cut.
    """

    name: str
    start: int | None = None
    end: int | None = None
    user_range: int | None = None
