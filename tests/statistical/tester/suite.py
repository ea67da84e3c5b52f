"""What is judged, in which numbers of samples: everything, or in few minutes a part in which everything occurs once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle

from tests.statistical.tester.cases import AGGREGATES, BOUNDS, GUARANTEES, Case, all_cases
from tests.statistical.tester.pipeline import Encoded
from tests.statistical.tester.selections import (
    OTHERS_PLANS,
    STRATEGIES,
    NamesAndCounts,
    NamesCase,
    names_cases,
    others_verdict,
)
from tests.statistical.tester.verdicts import Verdict, judged

__all__ = ["MILLION", "Judge", "every_judge", "full_size", "quick_cases", "quick_size"]

MILLION = 1_000_000
_MANY_CELLS = 4

Judge = Callable[[Encoded], Verdict]


def quick_size(case: Case, moved: int) -> int:
    """Enough to reject the twin with a margin: with pure epsilon, many cells move together only in rare events."""
    return MILLION if case.guarantee == "epsilon" and moved >= _MANY_CELLS else MILLION // 5


def full_size(case: Case, moved: int) -> int:
    """A million where that is cheap or needed, and more where that would reject the twin without much of a margin."""
    if case.guarantee == "epsilon":
        return 4 * MILLION if moved >= 2 * _MANY_CELLS else MILLION
    return MILLION if moved <= 2 else MILLION // 4


def quick_cases() -> Iterator[Case]:
    """Every aggregate once, and every form of bound under every guarantee."""
    offered = {str(case): case for case in all_cases()}
    turns = cycle(GUARANTEES)
    limits = cycle(limit for limit in BOUNDS if limit != "rollup")  # of trees it moves many cells
    for aggregate in AGGREGATES:
        guarantee = next(turns)
        yield next(case for _ in BOUNDS if (case := offered.get(f"{aggregate} | {next(limits)} | {guarantee}")))
    for limit in BOUNDS:
        for guarantee in GUARANTEES:
            for aggregate in ("count", "count_units"):
                if (case := offered.get(f"{aggregate} | {limit} | {guarantee}")) is not None:
                    yield case
                    break


def every_judge(cases: Sequence[Case]) -> list[tuple[str, Judge]]:
    """Judges of these cases, and of all that concerns private keys, in full."""
    of_keys: list[NamesCase | NamesAndCounts] = [*names_cases(), *map(NamesAndCounts, STRATEGIES)]
    return [
        *((str(case), partial(_judged_in_full, case)) for case in cases),
        *((str(case), partial(_judged_by_a_million, case)) for case in of_keys),
        *((f"others {asked}", partial(others_verdict, asked, size=MILLION)) for asked in OTHERS_PLANS),
    ]


def _judged_in_full(case: Case, codes: Encoded) -> Verdict:
    return judged(case, codes, full_size)


def _judged_by_a_million(case: NamesCase | NamesAndCounts, _codes: Encoded) -> Verdict:
    return case.judged(MILLION)
