"""A plan: what a query costs, which noise its cells get, and that no honest sum can wrap. Made before any row is read.

Parties, if there are several, enter through two public facts: how many of them may hold rows of one unit, and how many
add noise while how many of these may collude.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from dp.accounting.accountants import price
from dp.accounting.budget import ZCDP, ApproxDP, Budget, Guarantee, PureDP, RenyiDP, budget_to_json
from dp.accounting.events import Composed, DeltaEvent, Event, PureEvent
from dp.accounting.renyi import ORDERS
from dp.accounting.splits import greatest_factor
from dp.errors import InvalidArgument
from dp.exact import Exact, rational
from dp.noise.accuracy import NoiseTerm
from dp.noise.coins import LaplaceCoins
from dp.noise.entropy import RandomSource
from dp.noise.selection import Selection
from dp.planning.facts import Key
from dp.planning.families import Family, families
from dp.planning.keys import Group, PrivateKeys
from dp.planning.measures import Measure, Sensitivity
from dp.planning.parts import ONE_CURATOR, NoiseParties, Part, calibrated
from dp.planning.query import Query

__all__ = ["ONE_CURATOR", "PLAN_FORMAT", "NoiseParties", "Part", "Plan", "guarantee", "make_plan"]

MAX_CELLS = 2**26
"""Cells of one release: half a GiB of words, which a ledger still keeps in one entry."""

PLAN_FORMAT = 2
"""Raised when the same plan fields come to mean something else, so that no stored release answers the new question."""

_WRAP_LOG2_PROBABILITY = 64
"""Noise pushes a cell past the proven range with probability at most 2^-64 over a whole release."""

MAX_CHOICE_CELLS = 2**22
"""Cells of a release that chooses by exact counts: the driver holds them all, 32 MiB."""


@dataclass(frozen=True)
class Plan:
    """A query with its price, its noise and its proof of range.

    Attributes:
        query: what is asked.
        keys: the groups of the vector, one tuple per group; none yet where keys are private.
        guarantee: what the release satisfies, towards everybody who sees it.
        parties: how many tables are added up.
        parties_per_unit: at how many of them one unit may have rows.
        noise: who adds noise.
        parts: the measures, in the order of their cells.
        selection: how private keys are chosen, or None.
    """

    query: Query
    keys: tuple[Group, ...]
    guarantee: Budget
    parties: int
    parties_per_unit: int
    noise: NoiseParties
    parts: tuple[Part, ...]
    selection: Selection | None = None

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.keys)

    @property
    def rows(self) -> tuple[tuple[Key | None, ...], ...]:
        """The keys of the answer's rows: the groups, and their totals where they are asked for."""
        return self.keys if self.query.hierarchy is None else self.query.hierarchy.nodes

    @property
    def length(self) -> int:
        """Cells of the vector."""
        return self.parts[-1].offset + self.parts[-1].cells if self.parts else 0

    @property
    def chooses(self) -> bool:
        """Whether the driver has to hold all exact cells, because something is chosen by them."""
        return any(part.chooses for part in self.parts)

    def for_keys(self, keys: tuple[Group, ...]) -> Plan:
        """The plan of the vector for private keys that were chosen: the same noise, another number of groups."""
        return replace(self, keys=keys, parts=tuple(_located(self.parts, len(keys))))

    def price(self, like: Budget | type[Budget]) -> Budget:
        """What the release costs on a ledger of this kind.

        Args:
            like: the ledger's capacity; or a kind of budget, of the usual orders where it has orders.

        Raises:
            InvalidArgument: the guarantee cannot be expressed in this kind (Gaussian noise on a pure ledger).
        """
        kind = like if isinstance(like, type) else type(like)
        if isinstance(self.guarantee, kind):
            return self.guarantee
        if isinstance(self.guarantee, ZCDP) and kind is not RenyiDP:
            raise InvalidArgument(
                "rho", str(self.guarantee.rho), f"this ledger counts in {kind.__name__}: give epsilon"
            )
        return price(Composed(self.events), kind, orders=like.orders if isinstance(like, RenyiDP) else ORDERS)

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything that the release does to the data."""
        chosen = () if self.selection is None else (PureEvent(self.selection.epsilon), DeltaEvent(self.selection.delta))
        charged = self.noise.sampler_delta(self.guarantee)
        sampled = (DeltaEvent(charged),) if charged else ()
        return (*(part.event for part in self.parts), *chosen, *sampled)

    @cached_property
    def coins(self) -> tuple[LaplaceCoins, ...]:
        """Of the draws of each part, where a protocol makes the noise of coins; else none."""
        return self.noise.coins(self.guarantee, self.parts)

    def part_of(self, measure: Measure) -> Part:
        """The part that belongs to a measure of an aggregate."""
        measured = self.query.measured(measure)
        return next(part for part in self.parts if part.measure == measured)

    def noise_term(self, measure: Measure, coefficient: float) -> NoiseTerm:
        """A measure's noise in the released cells, scaled."""
        return NoiseTerm(self.part_of(measure).noise, coefficient, self.noise.copies)

    def draw_noise(self, start: int, stop: int, random: RandomSource) -> NDArray[np.uint64]:
        """One noise party's fresh noise for cells start..stop, as words of Z_2^64.

        Args:
            start: first cell.
            stop: one past the last cell.
            random: where its bits come from.

        Returns:
            uint64 words of shape (stop - start,), two's complement.

        Raises:
            SparkMpcError: cells to choose by, which `noised` replaces.
        """
        words = np.zeros(stop - start, np.uint64)
        for part, first, last in self._overlapping(start, stop):
            words[first - start : last - start] = part.drawn(last - first, random)
        return words

    def noised(self, exact: NDArray[np.uint64], random: RandomSource) -> NDArray[np.uint64]:
        """What one curator may open: noise is added to exact cells, and choices are made by them.

        Args:
            exact: all cells, shape (length,): secret.
            random: where its bits come from.
        """
        parts = (part.noised(exact[part.offset : part.offset + part.cells], random) for part in self.parts)
        return np.concatenate([np.zeros(0, np.uint64), *parts])

    def _overlapping(self, start: int, stop: int) -> Iterator[tuple[Part, int, int]]:
        for part in self.parts:
            first, last = max(part.offset, start), min(part.offset + part.cells, stop)
            if first < last:
                yield part, first, last

    def to_json(self) -> dict[str, object]:
        """The plan's public fields; parties compare them before anything is shared."""
        return {
            "format": PLAN_FORMAT,
            "query": self.query.to_json(),
            "guarantee": budget_to_json(self.guarantee),
            "parties": self.parties,
            "parties_per_unit": self.parties_per_unit,
            "noise_parties": {**self.noise.to_json(), **self._coins_json()},
            "selection": None if self.selection is None else self.selection.to_json(),
            "measures": [
                {**part.measure.to_json(), "offset": part.offset, "mechanism": part.mechanism.to_json()}
                for part in self.parts
            ],
        }

    def _coins_json(self) -> dict[str, object]:
        return {"coins": [coins.to_json() for coins in self.coins]} if self.coins else {}


def guarantee(epsilon: Exact | None, delta: Exact = 0, rho: Exact | None = None) -> Guarantee:
    """Read what a release shall satisfy: epsilon, or epsilon and delta, or rho.

    Raises:
        InvalidArgument: none or both of epsilon and rho, or amounts that are not positive.
    """
    if (epsilon is None) == (rho is None):
        raise InvalidArgument("epsilon", epsilon, 'give epsilon (with delta, if you like), or rho, such as epsilon="1"')
    for name, value in (("epsilon", epsilon), ("rho", rho)):
        if value is not None and rational(value, name) <= 0:
            raise InvalidArgument(name, value, 'a release costs something: give a positive amount, such as "1"')
    if rho is not None:
        if rational(delta, "delta") != 0:
            raise InvalidArgument("delta", delta, "a delta belongs to epsilon; leave it out where rho is given")
        return ZCDP(rho)
    assert epsilon is not None
    asked = ApproxDP(epsilon, delta)
    return asked if asked.delta else PureDP(epsilon)


def make_plan(
    query: Query,
    asked: Budget,
    *,
    parties: int = 1,
    parties_per_unit: int = 1,
    noise: NoiseParties = ONE_CURATOR,
) -> Plan:
    """Calibrate every measure's noise to its share of the budget and prove that no honest sum wraps.

    Args:
        query: what is asked.
        asked: the guarantee of the release, towards everybody who sees it.
        parties: how many tables are added up.
        parties_per_unit: at how many of them one unit may have rows (the declared overlap).
        noise: who adds noise, and how many of them must suffice.

    Raises:
        InvalidArgument: a guarantee that this noise cannot give, or declared sizes for which a sum could wrap.
    """
    _check_parties(query, parties)
    _check_private_keys(query)
    ways = families(asked, query, noise)
    make = partial(_plan, query, asked, parties=parties, parties_per_unit=parties_per_unit, noise=noise)
    plans = [_stretched(make, asked, family) for family in ways]
    if plans[0].length > MAX_CELLS:
        raise InvalidArgument("keys", plans[0].groups, f"a release has at most {MAX_CELLS} cells: ask in parts")
    _check_choices(plans[0])
    best = min(plans, key=lambda plan: sum(math.log(part.mechanism.stddev or math.ulp(0)) for part in plan.parts))
    _prove_range(best)
    _ = best.coins  # raises where there are none so exact
    return best


def _stretched(make: Callable[[Family], Plan], asked: Budget, family: Family) -> Plan:
    """The plan of a family, with as much less noise as its parts together may have by sharper composition."""
    if not isinstance(asked, ApproxDP):
        return make(family)
    return make(family.times(greatest_factor(asked, lambda factor: make(family.times(factor)).events)))


def _plan(
    query: Query, asked: Budget, family: Family, *, parties: int, parties_per_unit: int, noise: NoiseParties
) -> Plan:
    units_together = parties_per_unit * query.facts.units_together
    query = replace(query, noise_norm=1 if isinstance(family.amount, PureDP) else 2)
    keys: tuple[Group, ...] = ()
    selection = None
    if isinstance(query.keys, PrivateKeys):
        selection = query.keys.selection(
            query.bounds,
            epsilon=family.selection_epsilon,
            delta=family.selection_delta,
            units_together=units_together,
        )
    else:
        keys = query.keys
    parts = tuple(_located(_parts(query, family.amount, units_together, noise, len(keys)), len(keys)))
    return Plan(query, keys, asked, parties, parties_per_unit, noise, parts, selection)


def _check_parties(query: Query, parties: int) -> None:
    """What is not a sum over parties' tables needs more than adding up."""
    if parties == 1:
        return
    if isinstance(query.keys, PrivateKeys):
        raise InvalidArgument("keys", None, "over several lakes keys are public: give them, or declare them")
    for aggregate in query.aggregates:
        if not all(measure.adds_over_parties for measure in aggregate.measures(query.schema)):
            raise InvalidArgument(
                "agg", aggregate.name, "different values at several lakes do not add up: leave it out"
            )


def _check_choices(plan: Plan) -> None:
    """Choices are made on the driver, which holds all cells of private keys anyway."""
    if plan.selection is None and plan.length > MAX_CHOICE_CELLS and plan.chooses:
        remedy = f"choices are made among at most {MAX_CHOICE_CELLS} cells: ask by fewer keys, or count with noise"
        raise InvalidArgument("keys", plan.groups, remedy)


def _check_private_keys(query: Query) -> None:
    """What is counted over all groups has no place among the cells of groups that nobody may know yet."""
    if isinstance(query.keys, PrivateKeys):
        for aggregate in query.aggregates:
            if not all(measure.by_group for measure in aggregate.measures(query.schema)):
                raise InvalidArgument("agg", aggregate.name, "it belongs to public keys: ask for it apart")


def _parts(
    query: Query, amount: PureDP | Fraction, units_together: int, noise: NoiseParties, groups: int
) -> Iterator[Part]:
    """The measures with their noise, not yet in their places."""
    for measure, share in query.shares.items():
        sensitivity = measure.sensitivity(query.bounds).times(units_together)
        if isinstance(query.keys, PrivateKeys) and query.keys.other is not None:
            # a unit's groups may all be added up in one cell of the others
            sensitivity = Sensitivity(sensitivity.l1, sensitivity.l1**2)
        try:
            cells = measure.cells(groups) or MAX_CELLS
            own = PureDP(amount.epsilon * share) if isinstance(amount, PureDP) else amount * share
            mechanism, event = calibrated(measure, sensitivity, own, noise, cells)
        except InvalidArgument:
            asked = str(amount.epsilon if isinstance(amount, PureDP) else amount)
            remedy = "so little budget for such bounds needs more noise than integers hold: ask for more, or tighten"
            raise InvalidArgument("epsilon", asked, remedy) from None
        yield Part(measure, 0, 0, sensitivity, mechanism, event)


def _located(parts: Iterable[Part], groups: int) -> Iterator[Part]:
    """The parts one after the other, for so many groups."""
    offset = 0
    for part in parts:
        cells = part.measure.cells(groups)
        yield replace(part, offset=offset, cells=cells)
        offset += cells


def _prove_range(plan: Plan) -> None:
    """No honest sum reaches half the ring: parties x units x what a unit adds to one cell, and the noise on top."""
    bounds, units = plan.query.bounds, plan.query.facts.bounded_units
    for part in plan.parts:
        per_cell = part.measure.sensitivity(bounds).l1
        draws = (part.cells or MAX_CELLS) * plan.noise.copies * len(plan.parts)
        tail = part.tail_bound(_WRAP_LOG2_PROBABILITY, draws)
        greatest = plan.parties * units * per_cell + plan.noise.copies * tail
        if greatest >= 2**63:
            remedy = (
                f"a sum of {part.measure.to_json()['measure']!r} could reach {greatest} and wrap at 2^63: declare the "
                "table's max_units, or tighten the bounds"
            )
            raise InvalidArgument("max_units", units, remedy)
