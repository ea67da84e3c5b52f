"""Questions that a stored release answers: sums of its noised cells, and what is computed from such sums.

Nothing private is read for it: a function of what was released satisfies the guarantee that was paid for. What has to
be checked is that the sum means what the question asks: the same rows, bounded alike, clamped and encoded alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dp.errors import InvalidArgument, SparkMpcError
from dp.noise.accuracy import NoiseTerm
from dp.planning.aggregates import Aggregate, Demand, Estimate, ExpectedError, Numbers, Opened, Schema
from dp.planning.bin_measures import Bins
from dp.planning.bounds import ContributionBounds
from dp.planning.conditions import Allowed, Typed, allowed_values, both, trailing_conditions, typed
from dp.planning.facts import Key
from dp.planning.keys import Group, PrivateKeys
from dp.planning.measures import Measure, Present, Rows
from dp.planning.query import Query, canonical, square_bits
from dp.planning.stored import StoredCells, StoredPlan
from dp.planning.sum_measures import Squares, Total
from dp.planning.sums import Clamped

__all__ = ["Derived", "derive"]

_ADDS_ROWS = (Rows, Present, Total, Squares, Bins)
"""Measures that are sums over rows of what each adds by itself, so that those of two groups add up to that of both."""

_ENCODINGS: tuple[frozenset[Demand], ...] = (frozenset(), frozenset({"centred"}), frozenset({"centred", "squared"}))
"""What the stored release's aggregates together may have demanded of a clamped column."""

_WRAP_LOG2_PROBABILITY = 64

_TypedKey = tuple[Typed, ...]


@dataclass(frozen=True)
class Derived:
    """A question, and the sums of a stored release's cells that answer it.

    Attributes:
        query: what is asked.
        stored: the plan of the release.
        schemas: for each aggregate by name, how the release encoded its column.
        row: rows of the answer, and
        group: the stored groups of which each of them is the sum; shape (pairs,) both.
        only: in words, which of the rows that the question is about are in the answer; "" if all of them are.
    """

    query: Query
    stored: StoredPlan
    schemas: Mapping[str, Schema]
    row: NDArray[np.int64] = field(repr=False)
    group: NDArray[np.int64] = field(repr=False)
    only: str = ""

    @property
    def rows(self) -> tuple[tuple[Key | None, ...], ...]:
        """The keys of the answer's rows."""
        return self.query.groups

    @property
    def selection(self) -> None:
        """No keys were chosen: they are public."""

    @property
    def number(self) -> int:
        """Which of the ledger's stored releases it follows from."""
        return self.stored.number

    @cached_property
    def draws(self) -> NDArray[np.int64]:
        """How many independent draws of noise each row's cells carry, shape (rows,)."""
        return np.bincount(self.row, minlength=len(self.rows))

    def added_up(self, words: NDArray[np.uint64], measure: Measure) -> NDArray[np.int64]:
        """A measure's cells of every row of the answer: sums of stored cells.

        Args:
            words: the stored release's cells.
            measure: one that it has.

        Returns:
            shape (rows, *measure.shape).

        Raises:
            SparkMpcError: fewer cells than the plan names.
        """
        offset, cells = self._cells(measure).offset, measure.cells(len(self.stored.keys))
        if offset + cells > len(words):
            raise SparkMpcError(f"a stored release is damaged: {len(words)} cells, its plan names {offset + cells}")
        of_groups = words[offset : offset + cells].reshape(len(self.stored.keys), measure.width)
        sums = np.zeros((len(self.rows), measure.width), np.uint64)  # modulo 2^64, as the cells themselves
        np.add.at(sums, self.row, of_groups[self.group])
        return sums.view(np.int64).reshape(len(self.rows), *measure.shape)

    def estimates(self, words: NDArray[np.uint64], confidence: float) -> dict[str, Estimate]:
        """Values and intervals by aggregate, from the stored release's cells alone.

        Args:
            words: these cells.
            confidence: of every interval.

        Guarantees: a value is what the same sums of cells would be estimated at if they had been measured so; its
            interval follows from the exact law of the sum of all draws that are in it.
        """
        return {aggregate.name: self._estimate(aggregate, words, confidence) for aggregate in self.query.aggregates}

    def expected_errors(self, confidence: float) -> dict[str, ExpectedError]:
        """By aggregate, the half width of the interval of the row that adds up the most cells."""
        noise = partial(self._noise, int(self.draws.max()))
        return {a.name: a.expected_error(self.schemas[a.name], noise, confidence) for a in self.query.aggregates}

    def _estimate(self, aggregate: Aggregate, words: NDArray[np.uint64], confidence: float) -> Estimate:
        schema = self.schemas[aggregate.name]
        cells = {measure: self.added_up(words, measure) for measure in aggregate.measures(schema)}
        alike = [np.flatnonzero(self.draws == draws) for draws in np.unique(self.draws)]  # rows of equal noise
        opened = (self._opened(cells, rows, confidence) for rows in alike)
        return _in_order([aggregate.estimate(schema, each) for each in opened], np.concatenate(alike))

    def _opened(self, cells: Mapping[Measure, NDArray[np.int64]], rows: NDArray[np.int64], confidence: float) -> Opened:
        def of_rows(measure: Measure) -> Numbers:
            return cells[measure][rows]

        return Opened(len(rows), of_rows, partial(self._noise, int(self.draws[rows[0]])), confidence)

    def _noise(self, draws: int, measure: Measure, coefficient: float) -> NoiseTerm:
        return NoiseTerm(self._cells(measure).noise, coefficient, draws)

    def _cells(self, measure: Measure) -> StoredCells:
        found = self.stored.cells_of(measure)
        assert found is not None  # since `derive`
        return found


def _in_order(estimates: list[Estimate], rows: NDArray[np.int64]) -> Estimate:
    """Estimates of some rows each, put together in the order of all rows."""
    order = np.argsort(rows)
    values, stddev, lower, upper = (
        np.concatenate([getattr(estimate, name) for estimate in estimates])[order]
        for name in ("values", "stddev", "lower", "upper")
    )
    return Estimate(values, stddev, lower, upper, estimates[0].labels)


def derive(query: Query, stored: StoredPlan) -> Derived:
    """How a question follows from a stored release of the same table's version.

    Args:
        query: what is asked, of one lake.
        stored: the release's plan.

    Raises:
        InvalidArgument: it does not follow; it says why.

    Guarantees: each row of the answer is the sum of the stored cells of disjoint groups. But for the noise it has the
        law that the question itself would have, with its own bounds and clamps, on the rows that `only` names.
    """
    _check_declared(query, stored)
    schemas = {aggregate.name: _schema(aggregate, query, stored) for aggregate in query.aggregates}
    conditions = _further_conditions(query, stored)
    parts = _parts(query, stored, conditions)
    _check_bounding(query, stored, parts)
    row, group = _sums(query, parts)
    derived = Derived(query, stored, schemas, row, group, _only(query, stored, parts))
    _check_range(derived)
    return derived


def _refused(stored: StoredPlan, why: str) -> InvalidArgument:
    return InvalidArgument("release", stored.number, f"this question does not follow from it: {why}")


def _check_declared(query: Query, stored: StoredPlan) -> None:
    asked = query.to_json()
    for name in ("unit", "max_units", "units_together"):
        if canonical({name: asked[name]}) != canonical({name: stored.declared[name]}):
            raise _refused(stored, f"it was made with another {name}: {stored.declared[name]!r}")
    columns = stored.declared["columns"]
    assert isinstance(columns, dict)
    for name, kind in query.columns.items():
        if columns.get(name) != vars(kind):
            raise _refused(stored, f"it has not read column {name!r} as it is now")


def _schema(aggregate: Aggregate, query: Query, stored: StoredPlan) -> Schema:
    """How the release encoded what an aggregate adds up."""
    plain = replace(query.schema, demands={}, square_bits=square_bits(stored.bounds, query.facts))
    clamped = [aggregate.clamp] if isinstance(aggregate, Clamped) else []
    for demands in _ENCODINGS:
        schema = replace(plain, demands=dict.fromkeys(clamped, demands))
        measures = aggregate.measures(schema)
        if not all(isinstance(measure, _ADDS_ROWS) for measure in measures):
            raise _refused(stored, f"{aggregate.name!r} is not computed from sums over rows")
        if all(stored.cells_of(measure) is not None for measure in measures):
            return schema
    raise _refused(stored, f"it has not measured what {aggregate.name!r} is computed from")


def _further_conditions(query: Query, stored: StoredPlan) -> Allowed:
    """What the question asks of the release's grouping columns beyond what was done to its rows before."""
    if query.filters[: len(stored.filters)] != stored.filters:
        raise _refused(stored, f"other steps were taken before: {list(stored.filters)}")
    steps = query.filters[len(stored.filters) :]
    understood = [allowed_values(condition) for condition in trailing_conditions(steps)]
    known = [allowed for allowed in understood if allowed is not None and allowed.keys() <= set(stored.by)]
    if len(known) < len(steps):
        remedy = f"conditions on {list(stored.by)} can follow from it, as in {(stored.by or ('a',))[0]} = 'a' or IN"
        raise _refused(stored, f"further steps were taken, {list(steps)}; only {remedy}")
    return _all_of(known)


@dataclass(frozen=True)
class _Parts:
    """The question's finest groups, and the stored groups that each of them consists of.

    Attributes:
        of: stored groups by their numbers, for each of the question's finest keys.
        all_of_it: whether every stored group is in one of them.
    """

    of: Mapping[_TypedKey, tuple[int, ...]]
    all_of_it: bool

    @property
    def one_to_one(self) -> bool:
        """Whether each consists of one stored group."""
        return all(len(groups) == 1 for groups in self.of.values())


def _parts(query: Query, stored: StoredPlan, conditions: Allowed) -> _Parts:
    if isinstance(query.keys, PrivateKeys):
        raise _refused(stored, "the question is about private keys, which are chosen anew")
    if not set(query.by) <= set(stored.by):
        raise _refused(stored, f"it is by {list(stored.by)}")
    of: dict[_TypedKey, list[int]] = {_typed(key): [] for key in query.keys}
    places = [stored.by.index(column) for column in query.by]
    used = 0
    for number, key in enumerate(stored.keys):
        whole, values = _at(places, key), dict(zip(stored.by, _typed(key), strict=True))
        if whole in of and all(values[column] in allowed for column, allowed in conditions.items()):
            of[whole].append(number)
            used += 1
    for key in query.keys:
        if not of[_typed(key)]:
            raise _refused(stored, f"it has no group of the key {key}")
    return _Parts({key: tuple(groups) for key, groups in of.items()}, used == len(stored.keys))


def _typed(key: Group) -> _TypedKey:
    return tuple(typed(value) for value in key)


_Kept = tuple[str, object]


def _kept(bounds: ContributionBounds, groups: int, unit: tuple[str, ...]) -> _Kept:
    """Which of a unit's rows stay, in one form for all bounds that mean the same."""
    if not unit:
        return "all", None  # every row is a unit of its own
    if bounds.max_groups is not None and bounds.max_groups < groups:
        return "some groups", tuple(vars(bounds).values())
    if bounds.max_total_rows is not None:
        return "in all", bounds.max_total_rows
    if bounds.max_rows is None:
        return "all", None
    return ("in all" if groups == 1 else "in each group", bounds.max_rows)


def _check_bounding(query: Query, stored: StoredPlan, parts: _Parts) -> None:
    """A unit's rows survive by the same law, whatever rows it has; else the sum would be another quantity."""
    unit, groups = query.facts.unit, len(parts.of)
    before, asked = _kept(stored.bounds, len(stored.keys), unit), _kept(query.bounds, groups, unit)
    alone = ("in each group", asked[1]) if groups == 1 and asked[0] == "in all" else asked
    if before[0] == "in each group":
        same = parts.one_to_one and alone == before
    else:
        same = asked == before and (
            before[0] == "all" or (parts.all_of_it and (before[0] == "in all" or parts.one_to_one))
        )
    if not same:
        what = f"{len(stored.keys)} group(s) were bounded by {_shown(stored.bounds)}"
        raise _refused(stored, f"its {what}, so that other rows of one unit are in it than {_shown(query.bounds)} keep")


def _shown(bounds: ContributionBounds) -> str:
    return ", ".join(f"{name}={bound}" for name, bound in vars(bounds).items() if bound is not None)


def _sums(query: Query, parts: _Parts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a row of the answer and a stored group that is in it; a total's row has those of all its groups."""
    assert not isinstance(query.keys, PrivateKeys)
    finest = [parts.of[_typed(key)] for key in query.keys]
    levels = [np.arange(len(finest))]
    if query.hierarchy is not None:
        pairs = zip(query.hierarchy.offsets, query.hierarchy.ancestors, strict=True)
        levels = [offset + ancestors for offset, ancestors in pairs]
    lengths = np.array([len(groups) for groups in finest])
    group = np.array([number for groups in finest for number in groups], np.int64)
    return np.concatenate([np.repeat(rows, lengths) for rows in levels]), np.tile(group, len(levels))


def _only(query: Query, stored: StoredPlan, parts: _Parts) -> str:
    """What the release leaves out: rows whose dropped columns have values that are not among its keys."""
    places = [place for place, column in enumerate(stored.by) if column not in query.by]
    if not places:
        return ""
    allowed = _all_of(map(allowed_values, trailing_conditions(query.filters)))
    if all(stored.by[place] in allowed for place in places):
        wanted = set(product(*(allowed[stored.by[place]] for place in places)))
        listed = ({_at(places, stored.keys[number]) for number in numbers} for numbers in parts.of.values())
        if all(wanted <= found for found in listed):
            return ""
    names = ", ".join(stored.by)
    return f"only rows whose {names} is one of the {len(stored.keys)} keys of release {stored.number} are in it"


def _at(places: Sequence[int], key: Group) -> _TypedKey:
    return tuple(typed(key[place]) for place in places)


def _all_of(conditions: Iterable[Allowed | None]) -> Allowed:
    """What all conditions together leave, as far as they are understood."""
    nothing: Allowed = {}
    return reduce(both, (allowed for allowed in conditions if allowed is not None), nothing)


def _check_range(derived: Derived) -> None:
    """No honest sum with its noise reaches half the ring, as for the cells themselves; see `make_plan`."""
    query, stored = derived.query, derived.stored
    measures = {m for a in query.aggregates for m in a.measures(derived.schemas[a.name])}
    for measure in measures:
        cells = derived._cells(measure)
        draws = measure.cells(len(stored.keys)) * stored.measures
        honest = query.facts.bounded_units * measure.sensitivity(stored.bounds).l1
        noise = int(derived.draws.max()) * cells.noise.tail_bound(_WRAP_LOG2_PROBABILITY, draws)
        if honest + noise >= 2**63:
            raise _refused(stored, f"so many cells of {measure.label!r} with their noise could wrap at 2^63")
