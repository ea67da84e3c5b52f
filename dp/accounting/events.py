"""What happened to the data, as frozen values that accountants interpret.

How often an event happened is its `count`, which `leaves` alone unfolds; a law test holds `compose(e, n)` equal to
`compose([e] * n)`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from dp.accounting.calibration import distributed_gaussian_rho
from dp.errors import InvalidArgument

__all__ = [
    "Composed",
    "DeltaEvent",
    "Event",
    "GaussianEvent",
    "LaplaceEvent",
    "PureEvent",
    "ZcdpEvent",
    "compose",
    "leaves",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that cost privacy; base of all events.

    Args:
        count: how often it happened, >= 1.

    Raises:
        InvalidArgument: a count below 1.
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidArgument("count", self.count, "an event happened at least once")


@dataclass(frozen=True)
class PureEvent(Event):
    """A mechanism of pure differential privacy, such as discrete Laplace noise at l1 sensitivity / scale = epsilon.

    Args:
        epsilon: >= 0, exact.

    Raises:
        InvalidArgument: a negative epsilon.
    """

    epsilon: Fraction

    def __post_init__(self) -> None:
        super().__post_init__()
        _not_negative("epsilon", self.epsilon)


@dataclass(frozen=True)
class LaplaceEvent(PureEvent):
    """Discrete Laplace noise on a vector of integers: a pure event whose Renyi divergences are known exactly.

    Args:
        epsilon: >= 0, exact.
        scale: of the noise, > 0, exact; the vector's l1 sensitivity is at most epsilon * scale.

    Raises:
        InvalidArgument: a negative epsilon, or a scale that is not positive.
    """

    scale: Fraction

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0:
            raise InvalidArgument("scale", self.scale, "give a scale > 0")


@dataclass(frozen=True)
class ZcdpEvent(Event):
    """A mechanism of zero-concentrated differential privacy, such as discrete Gaussian noise.

    Args:
        rho: >= 0, exact.

    Raises:
        InvalidArgument: a negative rho.
    """

    rho: Fraction

    def __post_init__(self) -> None:
        super().__post_init__()
        _not_negative("rho", self.rho)


@dataclass(frozen=True)
class GaussianEvent(Event):
    """Discrete Gaussian noise on a vector of integers, which is priced more sharply than by its rho alone.

    Args:
        l2_sensitivity_squared: square of the change that one unit makes in the l2 norm, >= 1.
        l1_sensitivity: the change that one unit makes in the l1 norm, >= 1.
        variance_each: parameter of each party's noise, > 0, exact; at least 1/4 where there are several.
        honest_parties: parties whose noise nobody else knows, >= 1.
        cells: coordinates of the vector, >= 1; those that one unit can change suffice.

    Raises:
        InvalidArgument: an argument outside its range.
    """

    l2_sensitivity_squared: int
    l1_sensitivity: int
    variance_each: Fraction
    honest_parties: int
    cells: int

    def __post_init__(self) -> None:
        super().__post_init__()
        least = Fraction(0) if self.honest_parties == 1 else Fraction(1, 4)
        if self.variance_each <= 0 or self.variance_each < least:
            raise InvalidArgument("variance_each", self.variance_each, "give > 0, and 1/4 for each of several parties")
        for name in ("l2_sensitivity_squared", "l1_sensitivity", "honest_parties", "cells"):
            if getattr(self, name) < 1:
                raise InvalidArgument(name, getattr(self, name), f"give {name} >= 1")

    @property
    def rho(self) -> Fraction:
        """What the noise costs in zero-concentrated differential privacy."""
        return distributed_gaussian_rho(
            l2_sensitivity_squared=self.l2_sensitivity_squared,
            l1_sensitivity=self.l1_sensitivity,
            variance_each=self.variance_each,
            honest_parties=self.honest_parties,
            cells=self.cells,
        )

    @property
    def changed_cells(self) -> int:
        """At how many coordinates one unit's change is not zero: integers that are not zero are at least one."""
        return min(self.cells, self.l1_sensitivity, self.l2_sensitivity_squared)


@dataclass(frozen=True)
class DeltaEvent(Event):
    """Probability charged to delta, such as the distance between the noise drawn and the noise meant.

    Args:
        delta: >= 0, exact, and added as it stands. A mechanism of (epsilon, delta) is a PureEvent and a DeltaEvent.
            Where a mechanism lies within a statistical distance d of one that is epsilon-differentially private, charge
            `calibration.delta_of_distance(d, epsilon)`.

    Raises:
        InvalidArgument: a negative delta.
    """

    delta: Fraction

    def __post_init__(self) -> None:
        super().__post_init__()
        _not_negative("delta", self.delta)


@dataclass(frozen=True)
class Composed(Event):
    """Several events, each of which may depend on what the earlier ones released.

    Args:
        events: what happened, in any order.
    """

    events: tuple[Event, ...]


def compose(events: Event | Iterable[Event], count: int = 1) -> Composed:
    """Several events, or one event several times, in a form that does not depend on their order or grouping.

    Args:
        events: one event or several.
        count: how often all of them happened, >= 1.

    Returns:
        Equal leaves are merged into one with the sum of their counts.

    Raises:
        InvalidArgument: a count below 1.
    """
    together = Composed((events,) if isinstance(events, Event) else tuple(events), count=count)
    totals: Counter[Event] = Counter()
    for leaf, times in leaves(together):
        totals[leaf] += times
    return Composed(tuple(replace(leaf, count=times) for leaf, times in sorted(totals.items(), key=repr)))


def leaves(event: Event) -> Iterator[tuple[Event, int]]:
    """The single events that an event consists of: each with count 1, and how often it happened in all."""
    if not isinstance(event, Composed):
        yield replace(event, count=1), event.count
        return
    for part in event.events:
        for leaf, times in leaves(part):
            yield leaf, times * event.count


def _not_negative(parameter: str, amount: Fraction) -> None:
    if amount < 0:
        raise InvalidArgument(parameter, amount, "a privacy loss is never negative")
