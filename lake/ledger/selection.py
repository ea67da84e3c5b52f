"""Which blocks a claim is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from dp.accounting.budget import Budget, fits
from dp.errors import BudgetExceeded, InvalidArgument
from lake.blocks.rules import Blocks
from lake.blocks.selectors import Selector
from lake.ledger.balances import Demand
from lake.ledger.books import Books
from lake.ledger.layouts import layout_named, make_due
from lake.ledger.schema import WHOLE
from lake.ledger.settings import Settings

__all__ = ["Choice", "Named", "Wanted"]


class Choice(Protocol):
    """How much of which blocks a claim asks for."""

    @property
    def names(self) -> tuple[str, ...]:
        """The blocks, as far as they are known before the ledger is."""

    def chosen(self, books: Books, settings: Settings) -> Demand:
        """The blocks, made where they are due, and what is asked of each.

        Raises:
            BudgetExceeded: too few of them are there, or have enough left.
            InvalidArgument: blocks that there are not, or of which nothing is asked.
        """

    def could_be(self, demand: Demand) -> bool:
        """Whether this may have been chosen before."""


@dataclass(frozen=True)
class Named:
    """Blocks by their names, each for one price.

    Attributes:
        names: of the blocks.
        price: of each.
        layout: the fingerprint of the rule that cut the rows; "" for the whole.
    """

    names: tuple[str, ...]
    price: Budget
    layout: str

    @property
    def demand(self) -> Demand:
        """What is asked of each."""
        return dict.fromkeys(self.names, self.price)

    def chosen(self, books: Books, settings: Settings) -> Demand:
        """These blocks."""
        make_due(books, settings, self.names, self.layout)
        return self.demand

    def could_be(self, demand: Demand) -> bool:
        """Whether it is the same."""
        return demand == self.demand


@dataclass(frozen=True)
class Wanted:
    """What a claim asks for, before it is known which blocks there are.

    Args:
        rule: how the table is cut; None for the whole.
        selector: which of its blocks.
        demand: of each block, or block -> of that block.
        min_blocks: take fewer than all, but no fewer than these: blocks that have too little left are passed over.
            None: all or nothing.
        max_blocks: take no more than these, the last by name; None: any number.

    Raises:
        InvalidArgument: numbers that are no counts, or a selector without a rule.
    """

    rule: Blocks | None
    selector: Selector
    demand: Budget | Mapping[str, Budget]
    min_blocks: int | None = None
    max_blocks: int | None = None

    def __post_init__(self) -> None:
        for name, count in (("min_blocks", self.min_blocks), ("max_blocks", self.max_blocks)):
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
                raise InvalidArgument(name, count, "give a whole number above zero, or nothing")
        if self.min_blocks is not None and self.max_blocks is not None and self.max_blocks < self.min_blocks:
            raise InvalidArgument("max_blocks", self.max_blocks, f"give at least min_blocks, {self.min_blocks}")
        if self.rule is None and self.selector.conditions:
            raise InvalidArgument("selector", str(self.selector), "the whole has no blocks: name the table's, too")

    @property
    def names(self) -> tuple[str, ...]:
        """Only the ledger knows which there are."""
        return () if self.rule is not None else (WHOLE,)

    @property
    def table(self) -> str:
        """For the record."""
        return "" if self.rule is None else self.rule.name

    @property
    def text(self) -> str:
        """For the record."""
        counts = [
            f"{count} {name}" for count, name in ((self.min_blocks, "at least"), (self.max_blocks, "at most")) if count
        ]
        return "; ".join([str(self.selector), *counts]) if self.rule else ""

    def chosen(self, books: Books, settings: Settings) -> Demand:
        """The blocks that match now."""
        names = self._names(books)
        make_due(books, settings, names, "" if self.rule is None else self.rule.fingerprint)
        if self.min_blocks is not None:
            names = [name for name in names if fits(self._of(name), books.accounts.of(name).left)]
        if self.max_blocks is not None:
            names = names[-self.max_blocks :]
        least = self.min_blocks or 1
        if len(names) < least:
            raise BudgetExceeded(
                f"min_blocks={least}: {len(names)} block(s) of {self.rule} match and have enough left on ledger"
                f" {books.ledger!r}: ask for less, or for others"
            )
        return {name: self._of(name) for name in names}

    def could_be(self, demand: Demand) -> bool:
        """Whether the amounts are the same; which blocks there are changes with time."""
        return bool(demand) and all(
            amount == (self.demand.get(name) if isinstance(self.demand, Mapping) else self.demand)
            for name, amount in demand.items()
        )

    def _names(self, books: Books) -> list[str]:
        if self.rule is None:
            return [WHOLE]
        layout_named(books, self.rule.name)
        return [block.name for block in self.rule.matching(self.selector, books.tx.now)]

    def _of(self, name: str) -> Budget:
        if not isinstance(self.demand, Mapping):
            return self.demand
        if name not in self.demand:
            raise InvalidArgument("demand", sorted(self.demand), f"says nothing of block {name!r}: select others")
        return self.demand[name]
