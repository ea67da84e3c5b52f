"""What every block of a ledger has left, and the moves between its four parts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

from sqlalchemy import bindparam, insert, select, update

from dp.accounting.budget import Budget, fits, summed
from lake.errors import LedgerError
from lake.ledger.amounts import added, nothing_like, read_budget, share_of, taken, write_budget
from lake.ledger.copies import changed
from lake.ledger.schema import blocks
from lake.ledger.store import Row, Transaction

__all__ = ["Accounts", "BlockState", "Demand", "counted", "expect_blocks", "made_block", "once_each", "together"]

K = TypeVar("K")
T = TypeVar("T")

Demand = Mapping[str, Budget]
"""How much of which block."""

_COLUMNS = (blocks.c.name, blocks.c.layout, blocks.c.capacity, blocks.c.unlocked, blocks.c.unlocked_at)
_ALL = select(*_COLUMNS, blocks.c.acquired, blocks.c.consumed, blocks.c.created_at).order_by(blocks.c.name)
_BY_NAME = _ALL.where(blocks.c.name == bindparam("name"))
_BY_LAYOUT = _ALL.where(blocks.c.layout == bindparam("layout"))
_SAVE = (
    update(blocks)
    .where(blocks.c.name == bindparam("block"))
    .values({name: bindparam(name) for name in ("unlocked", "unlocked_at", "acquired", "consumed")})
)
_INSERT = insert(blocks).values({column: bindparam(column.name) for column in blocks.columns})


_FEW = 16


@dataclass(frozen=True)
class BlockState:
    """One block at one moment.

    Guarantees:
        capacity = locked + unlocked + acquired + consumed, exactly; amounts of a Renyi budget may be negative where an
        order is used up.

    Attributes:
        name: the block.
        layout: the rule that made it; "" for the whole of the ledger.
        capacity: all that it ever gives.
        share: the part of the capacity that the scheduler has unlocked so far, in [0, 1].
        shared_at: when that was brought up to date, in seconds since the epoch.
        acquired: held by reserved claims.
        consumed: armed or spent; never falls.
        created_at: in seconds since the epoch.
    """

    name: str
    layout: str
    capacity: Budget
    share: Fraction
    shared_at: float
    acquired: Budget
    consumed: Budget
    created_at: float

    @property
    def unlocked(self) -> Budget:
        """What a claim may be granted now."""
        return taken(share_of(self.capacity, self.share), self.acquired, self.consumed)

    @property
    def locked(self) -> Budget:
        """What the scheduler still holds back."""
        return share_of(self.capacity, 1 - self.share)

    @property
    def left(self) -> Budget:
        """What is not consumed: all that any claim can ever get."""
        return taken(self.capacity, self.consumed)

    @property
    def remaining(self) -> Budget:
        """What is neither consumed nor held, locked or not."""
        return taken(self.capacity, self.acquired, self.consumed)

    @property
    def retired(self) -> bool:
        """Whether nothing is left: no noised release can be paid of it any more (an exact opening takes no budget)."""
        amounts = self.left.amounts
        rooms = (amount > 0 for name, amount in amounts.items() if name != "delta")
        return not any(rooms)


def once_each(made_of: Callable[[K], T]) -> Callable[[K], T]:
    """The same function, called once for each object: claims often share their demand, and blocks their amount."""
    made: dict[int, tuple[T, K]] = {}

    def found(one: K) -> T:
        if id(one) not in made:
            made[id(one)] = made_of(one), one  # kept alive: so the id stays its own
        return made[id(one)][0]

    return found


def counted(demands: Iterable[Demand]) -> list[tuple[Demand, int]]:
    """Each of them once, and how often it is there; equal ones that are not one object may be apart."""
    every = list(demands)
    known = {id(demand): demand for demand in every}  # an exact amount takes long to compare
    return [(known[one], count) for one, count in Counter(map(id, every)).items()]


def together(demands: Sequence[tuple[Demand, int]]) -> Demand:
    """What several claims ask of each block in all, as they were `counted`."""
    if len(demands) == 1 and demands[0][1] == 1:
        return demands[0][0]
    sums: defaultdict[str, list[tuple[Budget, int]]] = defaultdict(list)
    for demand, count in demands:
        for block, amount in demand.items():
            sums[block].append((amount, count))
    return {block: summed(counts, counts[0][0]) for block, counts in sums.items()}


def made_block(tx: Transaction, name: str, layout: str, capacity: Budget, *, unlocked: Fraction, at: float) -> None:
    """Write a block of which nothing is used, and such a share unlocked as of `at`."""
    nothing = write_budget(nothing_like(capacity))
    tx.write(
        _INSERT,
        name=name,
        layout=layout,
        capacity=write_budget(capacity),
        unlocked=str(unlocked),
        unlocked_at=at,
        acquired=nothing,
        consumed=nothing,
        created_at=tx.now,
    )


def expect_blocks(tx: Transaction, names: Iterable[str]) -> None:
    """Say which blocks will be looked at."""
    for name in names:
        tx.ahead(_BY_NAME, name=name)


class Accounts:
    """The blocks that one transaction looks at; changes are written by `save`."""

    def __init__(self, tx: Transaction, name: str) -> None:
        """Read nothing yet.

        Args:
            tx: the transaction.
            name: of the ledger, for errors.
        """
        self._tx = tx
        self._ledger = name
        self._states: dict[str, BlockState] = {}
        self._changed: dict[str, None] = {}

    def of(self, block: str) -> BlockState:
        """One block.

        Raises:
            LedgerError: there is no such block.
        """
        if not self.has(block):
            raise LedgerError(self._ledger, f"has no block {block!r}", "`spark-mpc ledger blocks` lists them")
        return self._states[block]

    def fetch(self, names: Collection[str]) -> None:
        """Read several blocks at once: they will be looked at."""
        if len(names) > _FEW:
            self.all()

    def has(self, block: str) -> bool:
        """Whether there is such a block."""
        if block not in self._states:
            self._taken_in(self._tx.rows(_BY_NAME, name=block))
        return block in self._states

    def all(self) -> list[BlockState]:
        """Every block, by name."""
        return self._taken_in(self._tx.rows(_ALL))

    def of_layout(self, layout: str) -> list[BlockState]:
        """Every block that a layout has made so far, by name."""
        return self._taken_in(self._tx.rows(_BY_LAYOUT, layout=layout))

    def acquire(self, demand: Demand) -> None:
        """Unlocked to acquired."""
        for block, amount in demand.items():
            self._set(block, acquired=added(self.of(block).acquired, amount))

    def give_back(self, demand: Demand) -> None:
        """Acquired to unlocked."""
        for block, amount in demand.items():
            self._set(block, acquired=taken(self.of(block).acquired, amount))

    def consume(self, demand: Demand) -> None:
        """Acquired to consumed."""
        self.give_back(demand)
        self.charge(demand)

    def charge(self, demand: Demand) -> None:
        """Unlocked to consumed."""
        for block, amount in demand.items():
            self._set(block, consumed=added(self.of(block).consumed, amount))

    def unlock(self, block: str, share: Fraction, at: float) -> None:
        """Locked to unlocked, up to `share` of the capacity as of `at`; what is unlocked is never locked again."""
        self._set(block, share=max(self.of(block).share, share), shared_at=at)

    def lacking(self, demand: Demand, room: Callable[[BlockState], Budget]) -> list[BlockState]:
        """The blocks whose `room` is too small for what is asked of them."""
        return [state for block, amount in demand.items() if not fits(amount, room(state := self.of(block)))]

    def save(self) -> None:
        """Write what changed."""
        self._tx.write_one_each(_SAVE, [_written(self._states[block]) for block in self._changed])
        self._changed.clear()

    def _set(self, block: str, **parts: object) -> None:
        self._states[block] = changed(self.of(block), parts)
        self._changed[block] = None

    def _taken_in(self, rows: Iterable[Row]) -> list[BlockState]:
        return [self._states.setdefault(row[0], _read(row)) for row in rows]


def _read(row: Row) -> BlockState:
    name, layout, capacity, share, shared_at, acquired, consumed, created_at = row
    amounts = map(read_budget, (capacity, acquired, consumed))
    whole, held, gone = amounts
    return BlockState(name, layout, whole, _share(share), shared_at, held, gone, created_at)


@lru_cache(maxsize=256)
def _share(text: str) -> Fraction:
    return Fraction(text)


def _written(state: BlockState) -> dict[str, object]:
    return {
        "block": state.name,
        "unlocked": str(state.share),
        "unlocked_at": state.shared_at,
        "acquired": write_budget(state.acquired),
        "consumed": write_budget(state.consumed),
    }
