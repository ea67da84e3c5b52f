"""A rule against one pinned version of a table: which of its blocks exist there, and their rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from pyspark.sql import DataFrame

from dp.errors import InvalidArgument
from lake.blocks.block import Block
from lake.blocks.filters import rows_in
from lake.blocks.rules import Blocks
from lake.blocks.selectors import Selector

__all__ = ["Cut", "HoldsBlocks"]


class HoldsBlocks(Protocol):
    """Whatever has the names of blocks, as a ledger's claim has."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names."""


@dataclass(frozen=True)
class Cut:
    """How one version of a table is cut.

    Attributes:
        rule: its blocks.
        ids: the columns that are hashed, where users are cut.
        at: when the version was committed, in seconds since 1970-01-01 UTC: windows that began later do not exist.
    """

    rule: Blocks
    ids: tuple[str, ...]
    at: int

    def selected(self, selector: Selector) -> tuple[Block, ...]:
        """The blocks of a selector that exist in this version.

        Raises:
            InvalidArgument: there is none, or the selector does not fit the rule.
        """
        blocks = self.rule.matching(selector, self.at)
        if not blocks:
            remedy = f"no block of {self.rule} matches that had begun when the version was committed"
            raise InvalidArgument("selection", repr(selector), remedy)
        return blocks

    def held(self, names: tuple[str, ...]) -> tuple[Block, ...]:
        """The blocks of these names, in order, each once.

        Raises:
            InvalidArgument: a name that the rule never gives.
        """
        return tuple(sorted({self.rule.block(name) for name in names}, key=lambda block: block.name))

    def rows(self, df: DataFrame, blocks: tuple[Block, ...]) -> DataFrame:
        """The rows of these blocks; no other is read."""
        return df.where(rows_in(blocks, self.rule, df.schema, self.ids))

    def mark(self, blocks: tuple[Block, ...]) -> str:
        """A short name for a selection, for the data's version: another rule or other blocks have another one."""
        text = json.dumps({"rule": self.rule.to_json(), "blocks": [block.name for block in blocks]}, sort_keys=True)
        return f"{self.rule.name}-{sha256(text.encode()).hexdigest()[:16]}"
