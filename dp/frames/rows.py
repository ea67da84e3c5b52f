"""Private rows as a value: what a run reads, what its plan says of them. The operations are `PrivateFrame`'s."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession

from dp.execution.one_lake import Source
from dp.frames.schema import check_unit
from dp.planning.facts import PublicFacts

__all__ = ["PrivateRows"]


@dataclass(frozen=True)
class PrivateRows:
    """Rows of one table and everything public about them.

    Args:
        spark: the session in which releases appear.
        df: the rows; its expressions must be total, since an error that depends on a row tells of it.
        facts: what the owner declares in public.
        name: the table's name in ledgers and explanations.
        data_version: the pinned version; the same query on the same version is answered from the ledger. None where
            nothing pins the rows: then no stored release ever answers for them.
        partitions: shuffle partitions of the exchange by unit.
        steps: what was done to the rows since they were declared, in order, as text; part of every plan.
        blocks: the private blocks that the rows are of: no row of another block has any effect on them. None where the
            whole budget pays.
        layout: the fingerprint of the rule that cut these blocks; "" without blocks.
    """

    spark: SparkSession = field(repr=False)
    df: DataFrame = field(repr=False)
    facts: PublicFacts
    name: str
    data_version: str | None
    partitions: int = 2
    steps: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    layout: str = ""

    def __post_init__(self) -> None:
        check_unit(self.df.schema, self.facts.unit)

    @property
    def source(self) -> Source:
        """What a run reads; rows that nothing pins have another version every time."""
        version = self.data_version or f"unpinned-{secrets.token_hex(16)}"
        return Source(self.spark, self.df, self.name, version, self.partitions, blocks=self.blocks, layout=self.layout)

    @property
    def description(self) -> str:
        """One line on where the rows come from, for `explain`."""
        if self.data_version is None:
            return f"{self.name}, not pinned: the guarantee covers what follows dp(...), and nothing before it"
        return f"{self.name} at version {self.data_version}{self._of_blocks}"

    @property
    def _of_blocks(self) -> str:
        """The blocks, for people: two at most by their names."""
        if not self.blocks:
            return ""
        first, last = self.blocks[0], self.blocks[-1]
        return f", {len(self.blocks)} block(s): {first if first == last else f'{first} to {last}'}"
