"""Private blocks: disjoint pieces of a table, each with a capacity of its own, so that not every query pays for all."""

from lake.blocks.block import Block
from lake.blocks.rules import Blocks
from lake.blocks.selectors import TIME, USERS, Selector
from lake.blocks.sizes import user_ranges

__all__ = ["TIME", "USERS", "Block", "Blocks", "Selector", "user_ranges"]
