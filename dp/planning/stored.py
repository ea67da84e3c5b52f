"""The plan of a stored release, as its public JSON tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dp.accounting.budget import Budget, budget_from_json
from dp.accounting.ledger import StoredAnswer
from dp.errors import InvalidArgument
from dp.noise.mechanisms import DiscreteGaussian, DiscreteLaplace, mechanism_from_json
from dp.planning.bounds import ContributionBounds
from dp.planning.keys import Group
from dp.planning.measures import Measure
from dp.planning.plan import ONE_CURATOR, PLAN_FORMAT
from dp.planning.query import canonical, digest

__all__ = ["StoredCells", "StoredPlan"]


@dataclass(frozen=True)
class StoredCells:
    """Where a measure's cells stand in a stored release, and the noise that each of them has.

    Attributes:
        offset: the first one; group g, bin b is cell offset + g * width + b.
        noise: one draw of it is in every cell, independently.
    """

    offset: int
    noise: DiscreteLaplace | DiscreteGaussian


@dataclass(frozen=True)
class StoredPlan:
    """What was asked of one lake by public keys, and how it was measured.

    Attributes:
        number: which of the ledger's stored releases it is.
        guarantee: what the release satisfies.
        by: its grouping columns.
        keys: its groups, in the order of their cells.
        bounds: what one unit contributed at most.
        filters: what was done to the rows before, step by step.
        declared: the other public facts that a question shares with it, by their names.
    """

    number: int
    guarantee: Budget
    by: tuple[str, ...]
    keys: tuple[Group, ...]
    bounds: ContributionBounds
    filters: tuple[str, ...]
    declared: Mapping[str, object]
    _measures: Mapping[bytes, Mapping[str, Any]] = field(repr=False)

    @classmethod
    def read(cls, stored: StoredAnswer, table: str, data_version: str) -> StoredPlan:
        """The plan of a stored release, if that is one of this table's version.

        Raises:
            InvalidArgument: the release is of another table or version, is not what its key names, or is of a kind from
                which nothing follows; it says which.

        Guarantees: the plan, the table and the version are those that were paid for, whatever else the ledger says:
            their hash is the key of the release.
        """
        plan = _object(stored)
        if digest({"plan": plan, "data_versions": {table: data_version}}).hex() != stored.release_key:
            raise _refused(stored, f"it is not a release of {table!r} at version {data_version!r}")
        query = plan["query"]
        if plan["format"] != PLAN_FORMAT:
            raise _refused(stored, "it was stored by an earlier version, whose plans meant something else")
        if plan["selection"] is not None:
            raise _refused(stored, "its keys were private, so that it says nothing of the groups that it does not name")
        if query["totals"] != "none":
            raise _refused(stored, "it is a rollup, whose own table has every total that follows from it")
        if (plan["parties"], plan["noise_parties"]) != (1, ONE_CURATOR.to_json()):
            raise _refused(stored, "several parties made it")
        return cls(
            number=stored.number,
            guarantee=budget_from_json(plan["guarantee"]),
            by=tuple(query["by"]),
            keys=tuple(tuple(key) for key in query["keys"]),
            bounds=ContributionBounds(**query["bounds"]),
            filters=tuple(query["filters"]),
            declared={name: query[name] for name in ("unit", "max_units", "units_together", "columns")},
            _measures={_name(measure): measure for measure in plan["measures"]},
        )

    @property
    def measures(self) -> int:
        """How many measures it has."""
        return len(self._measures)

    def cells_of(self, measure: Measure) -> StoredCells | None:
        """The cells of a measure; None if it was not measured.

        Args:
            measure: one whose cells get noise, rather than being chosen by.
        """
        found = self._measures.get(canonical(measure.to_json()))
        return None if found is None else StoredCells(found["offset"], mechanism_from_json(found["mechanism"]))


def _object(stored: StoredAnswer) -> dict[str, Any]:
    try:
        read = json.loads(stored.plan)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise _refused(stored, "no plan is stored with it")
    return read


def _name(measure: Mapping[str, object]) -> bytes:
    """What makes two measures the same: every public field but for where it stands and what noise it got."""
    return canonical({name: value for name, value in measure.items() if name not in ("offset", "mechanism")})


def _refused(stored: StoredAnswer, why: str) -> InvalidArgument:
    return InvalidArgument("release", stored.number, f"nothing follows from it: {why}")
