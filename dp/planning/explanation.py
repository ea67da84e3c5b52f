"""What a query will cost and how good it will be, said before any row is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType

from dp.noise.choice import Peeling
from dp.noise.coins import distance_of_draws
from dp.noise.selection import Selection
from dp.planning.aggregates import ExpectedError
from dp.planning.bounds import ContributionBounds
from dp.planning.derivable import Derived
from dp.planning.facts import PublicFacts
from dp.planning.plan import Part, Plan

__all__ = ["Explanation", "FreeAnswers", "explain_plan"]

_SELDOM = 0.05
_MOST_OFFERS = 3


@dataclass(frozen=True)
class Explanation:
    """Named sections of text; `print` it, or let a notebook show it.

    Attributes:
        sections: title -> lines.
        errors: aggregate -> the half width of its interval at 95%; see `ExpectedError` for what it is the error of.
        free_from: the number of the stored release that is the answer to the very question: `release` gives it again,
            and nothing is paid. None: it pays, or no ledger was asked.
    """

    sections: Mapping[str, tuple[str, ...]]
    errors: Mapping[str, ExpectedError] = field(default_factory=lambda: MappingProxyType({}))
    free_from: int | None = None

    def __str__(self) -> str:
        return "\n".join(
            f"{title}\n" + "\n".join(f"    {line}" for line in lines) for title, lines in self.sections.items()
        )

    def _repr_html_(self) -> str:
        parts = (
            f"<h4>{escape(title)}</h4><ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
            for title, lines in self.sections.items()
        )
        return "".join(parts)


@dataclass(frozen=True)
class FreeAnswers:
    """What stored releases answer already.

    Attributes:
        same: the number of the release that is the answer to the very question, if there is one.
        offers: how it follows from others, the best first.
    """

    same: int | None = None
    offers: tuple[Derived, ...] = ()

    @property
    def sections(self) -> Mapping[str, tuple[str, ...]]:
        """A section of an explanation; none where nothing is free."""
        same = self.same
        lines = [f"free from release {same}: the same question, release() gives its answer again"] if same else []
        for offer in [offer for offer in self.offers if offer.number != same][:_MOST_OFFERS]:
            errors = (f"{name}: {_expected(error)}" for name, error in offer.expected_errors(0.95).items())
            lines.append(f"free from release {offer.number}, expected error (95%) {'; '.join(errors)}: {_how(offer)}")
        return {"Without paying": tuple(lines)} if lines else {}


def explain_plan(
    plan: Plan,
    sources: tuple[str, ...],
    more: Mapping[str, tuple[str, ...]] | None = None,
    free: FreeAnswers | None = None,
) -> Explanation:
    """Explain a plan.

    Args:
        plan: the calibrated plan.
        sources: one line per table.
        more: further sections, such as what a protocol costs and leaks.
        free: what stored releases answer already, where a ledger was asked.
    """
    free = free or FreeAnswers()
    query, bounds = plan.query, plan.query.bounds
    by = f" by {', '.join(query.by)}" if query.by else ""
    errors = {a.name: a.expected_error(query.schema, plan.noise_term, 0.95) for a in query.aggregates}
    sections = {
        "Query": (
            *sources,
            *query.filters,
            f"{len(plan.rows)} public group(s){by}" if plan.selection is None else f"private groups{by}",
            f"privacy unit: {_unit(query.facts)}{_dropped(query.facts, bounds)}",
        ),
        "Price": (
            f"{plan.guarantee} for everything that is released; {_payer(plan)}, in its own kind of budget",
            "neighbours: all rows of one unit, added or removed"
            + (f", at up to {plan.parties_per_unit} parties" if plan.parties_per_unit > 1 else ""),
        ),
        **({} if plan.selection is None else {"Private keys": _selection(plan.selection)}),
        "Noise": (*(_noise(plan, part) for part in plan.parts), *_sampler(plan)),
        "Expected error (95%)": tuple(f"{name}: {_expected(error)}" for name, error in errors.items()),
    }
    return Explanation({**sections, **(more or {}), **free.sections}, MappingProxyType(errors), free.same)


def _how(offer: Derived) -> str:
    most, only = int(offer.draws.max()), f"; {offer.only}" if offer.only else ""
    added = "its cells" if most == 1 else f"sums of {'up to ' if offer.draws.min() < most else ''}{most} of its cells"
    return f"from_release({offer.number}, ledger=ledger) gives {added}{only}"


def _payer(plan: Plan) -> str:
    return "the ledger pays" if plan.parties == 1 else "every owner's ledger pays"


def _unit(facts: PublicFacts) -> str:
    of_one = ", ".join(facts.unit) or "every row by itself"
    return of_one if facts.group_size == 1 else f"any {facts.group_size} together of {of_one}"


def _dropped(facts: PublicFacts, bounds: ContributionBounds) -> str:
    if facts.unit:
        return f"; at most {_limits(bounds)} of one unit are used, the rest is dropped and no interval covers that"
    return f", with up to {facts.rows_per_unit} rows that it has become" if facts.rows_per_unit > 1 else ""


def _selection(selection: Selection) -> tuple[str, ...]:
    half, sure = selection.threshold_at(0.5), selection.threshold_at(0.99)
    return (
        f"a group is named by its number of units, drawn by {selection.kind.replace('_', ' ')}: "
        f"with {half} units half of the time, with {sure} in 99 of 100",
        f"the selection spends epsilon={float(selection.epsilon):.4g}, delta={float(selection.delta):.4g}",
    )


def _limits(bounds: ContributionBounds) -> str:
    if bounds.max_rows is not None:
        return f"{bounds.max_rows} row(s) in each of {bounds.groups} group(s)"
    if bounds.max_total_rows is None:
        return f"{bounds.groups} group(s)"
    groups = "" if bounds.max_groups is None else f" in {bounds.max_groups} group(s)"
    return f"{bounds.rows} row(s){groups}"


def _noise(plan: Plan, part: Part) -> str:
    """One measure's sensitivity and noise, in the unit of its column."""
    unit = float(part.measure.unit)
    name, copies = part.measure.label, "" if plan.noise.copies == 1 else f"{plan.noise.copies} x "
    if isinstance(part.mechanism, Peeling):
        return f"{name}: {_choice(part.mechanism, part.measure.width)}"
    family, spread = part.mechanism.kind.replace("_", " "), part.mechanism.stddev * unit
    return (
        f"{name}: L1 sensitivity {part.sensitivity.l1 * unit:,.6g}, {copies}{family} "
        f"of standard deviation {spread:,.4g}{'' if part.measure.in_units else ', in encoded units'}"
    )


def _sampler(plan: Plan) -> tuple[str, ...]:
    """How far noise made of coins may be from its law, and what that costs."""
    if not plan.coins:
        return ()
    cells = [part.cells for part in plan.parts]
    tosses = sum(each.coins * count for each, count in zip(plan.coins, cells, strict=True))
    return (
        "drawn by the protocol, one sample a cell, which nobody knows: "
        f"{tosses:,} coins of {plan.coins[0].precision} bits",
        f"all samples together are within {float(distance_of_draws(plan.coins, cells)):.2g} of these laws (total "
        f"variation), for which delta={float(plan.noise.sampler_delta(plan.guarantee)):.2g} is charged",
    )


def _choice(mechanism: Peeling, candidates: int) -> str:
    trails = float(mechanism.scale) * math.log(1 / _SELDOM)
    how = {"top_k": "permute-and-flip", "exponential_top_k": "the exponential mechanism"}[mechanism.kind]
    return (
        f"{mechanism.k} of {candidates} values by {how}, epsilon={float(mechanism.epsilon):.4g}; one that trails by "
        f"{trails:,.4g} rows is preferred with a probability of at most {_SELDOM:.0%}"
    )


def _expected(error: ExpectedError) -> str:
    if error.of == "shortfall":
        return f"in no group is one chosen that trails a better one by more than {error.half_width:,.4g} rows"
    width = f"± {error.half_width:,.4g}" + (" / rows of the group" if error.per_row else "")
    return width if error.of == "value" else f"{width}, in its {error.of}"
