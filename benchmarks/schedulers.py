"""How many claims each scheduler grants on PrivateKube's workload, beside the published figures; and what a pass takes.

Four cases: one block or many, basic composition or Renyi orders. Every scheduler plays the same draws. A record has
the mean over seeds, its standard error, and the least and the most. Records of DPack have its grants over those of DPF
with the same unlocking, seed by seed: the mean, the least, the most, and how many seeds are below one. "one pass" has
all claims there at once, at several loads. "CASE, in one pass" is the whole workload of a case with every block open:
what DPack is made for. "pass" is the time of one pass over 1,000 blocks.

Cases with one block, or with basic composition, make a pass at every arrival and every second. "many blocks, Renyi"
makes one every second: first come first served grants the same either way.

Pictures: `python -m benchmarks schedulers > FILE`, then `python -m benchmarks._scheduling_pictures FILE DIRECTORY`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from benchmarks._measure import Cost, median_cost
from benchmarks._scheduling_kept_shares import KeptShares
from benchmarks._scheduling_replay import Replay
from benchmarks._scheduling_workload import CASES, Workload, contended
from lake.scheduling import (
    DPF,
    AtOnce,
    ByArrivals,
    ByTime,
    DPack,
    FirstComeFirstServed,
    Fits,
    RoundRobin,
    Scheduler,
    Supply,
    Waiting,
    scheduler_to_json,
)

__all__ = ["run"]

_TICK_SECONDS = 1.0


@dataclass(frozen=True)
class _Played:
    """What one case is played with.

    Attributes:
        case: its name.
        seeds: how many draws, where a figure is published for the unlocking.
        other_seeds: how many, elsewhere.
        parts: N of DPF, as multiples of the case's fair number of claims.
        lifetimes: L of DPF and DPack, seconds.
        packed: N of DPack, as multiples.
        shared: N of round robin, as multiples.
        kept: N of round robin whose claims keep their shares, as multiples.
        published: granted, by the scheduler's name and unlocking.
    """

    case: str
    seeds: int
    other_seeds: int
    parts: tuple[float, ...]
    lifetimes: tuple[int, ...]
    packed: tuple[float, ...]
    shared: tuple[float, ...]
    kept: tuple[float, ...]
    published: Mapping[str, int]

    def seeds_for(self, unlocking: str) -> int:
        return self.seeds if any(key.endswith(f" {unlocking}") for key in self.published) else self.other_seeds

    def schedulers(self) -> list[Scheduler]:
        fair = CASES[self.case].fair
        by_time = [ByTime(lifetime) for lifetime in self.lifetimes]
        return [
            FirstComeFirstServed(),
            *(RoundRobin(_arrivals(part, fair)) for part in self.shared),
            *(DPF(_arrivals(part, fair)) for part in self.parts),
            *map(DPF, by_time),
            *(DPack(_arrivals(part, fair)) for part in self.packed),
            *map(DPack, by_time),
        ]


def _arrivals(part: float, fair: int) -> ByArrivals:
    return ByArrivals(max(round(part * fair), 1))


_ONCE = "fcfs at_once"
_PLAYED = (
    _Played(
        "single block, basic",
        20,
        20,
        (0.01, 0.1, 0.5, 0.75, 1, 1.25, 1.75, 2, 2.25, 2.75, 3.25),
        (100, 175, 236),
        (0.5, 1, 1.75, 2.75),
        (0.01, 0.1, 0.5, 0.75, 1, 1.25),
        (0.1, 0.5, 0.75, 1, 1.25, 1.75),
        {
            _ONCE: 28,
            **{f"dpf arrivals={n}": 100 for n in (175, 200, 225)},
            **{f"dpf arrivals={n}": count for n, count in ((50, 46), (75, 55), (125, 91), (275, 85), (325, 72))},
        },
    ),
    _Played(
        "many blocks, basic",
        20,
        20,
        (0.01, 0.5, 1, 1.75, 2, 2.75, 3.75, 7.5),
        (25, 50, 100),
        (1.75, 2, 3.75, 7.5),
        (0.5, 1),
        (0.5, 1, 1.5, 1.75, 2, 2.75),
        {_ONCE: 1150, "dpf arrivals=200": 2350},
    ),
    _Played(
        "many blocks, Renyi",
        20,
        3,
        (0.1, 0.5, 0.75, 1, 1.75),
        (50, 100),
        (0.75, 1.75),
        (),
        (),
        {_ONCE: 18_400, "dpf arrivals=10886": 53_900, "dpf lifetime_seconds=100": 54_500},
    ),
    _Played(
        "single block, Renyi",
        20,
        3,
        (0.1, 0.5, 1, 1.75, 2.25, 3.25),
        (),
        (1,),
        (),
        (),
        {_ONCE: 580, "dpf arrivals=25400": 14_500, "dpf arrivals=32656": 14_500},
    ),
)


def run(quick: bool) -> Iterator[dict[str, object]]:
    """Passes, one pass at several loads, then the four cases: in one pass, and claim by claim.

    Args:
        quick: passes of 1,000 claims, and the cases of basic composition with 2 seeds.
    """
    yield from _passes((1_000,) if quick else (1_000, 10_000, 100_000))
    with ProcessPoolExecutor() as pool:
        each = partial(_each, pool.map)
        yield from _loads(each, 2 if quick else 20)
        for played in _PLAYED:
            if not quick:
                yield from _case(played, each)
            elif CASES[played.case].fits == "every":
                yield from _case(replace(played, seeds=2, other_seeds=2), each)


Each = Callable[[Callable[[int], int], int], "tuple[list[int], float]"]


def _each(mapped: Callable[..., Iterator[int]], action: Callable[[int], int], seeds: int) -> tuple[list[int], float]:
    """What an action returns for every seed, and the seconds that all took together on the wall clock."""
    start = time.perf_counter()
    return list(mapped(action, range(seeds))), time.perf_counter() - start


def _passes(sizes: Sequence[int]) -> Iterator[dict[str, object]]:
    for fits in ("every", "any"):
        for scheduler in (FirstComeFirstServed(), RoundRobin(AtOnce()), DPF(AtOnce()), DPack(AtOnce())):
            for claims in sizes:
                supply, waiting = contended(claims, 1_000, fits)
                cost = median_cost(partial(scheduler.grants, supply, waiting))
                what = {
                    "scheduler": scheduler.name,
                    "claims": claims,
                    "granted": len(scheduler.grants(supply, waiting)),
                }
                yield {"case": f"pass, {_composition(fits)}", **what, **_seconds(cost)}


def _seconds(cost: Cost) -> dict[str, object]:
    return {"seconds": round(cost.seconds, 4), "cpu_seconds": round(cost.cpu_seconds, 2)}


def _loads(each: Each, seeds: int) -> Iterator[dict[str, object]]:
    for fits in ("every", "any"):
        for load in (1.5, 2.0, 5.0, 20.0):
            of_load = partial(_contended, fits, load)
            for record in _in_one_pass(f"one pass, {_composition(fits)}", of_load, seeds, each):
                yield record | {"load": load, "claims": 10_000}


def _in_one_pass(
    case: str, problem: Callable[[int], tuple[Supply, Waiting]], seeds: int, each: Each
) -> Iterator[dict[str, object]]:
    """One pass of each scheduler over what a seed draws, every block open."""
    counts = {}
    for scheduler in (FirstComeFirstServed(), DPF(AtOnce()), DPack(AtOnce())):
        counts[scheduler.name], seconds = each(partial(_granted, scheduler, problem), seeds)
        over = _over(counts["dpack"], counts["dpf"]) if scheduler.name == "dpack" else {}
        yield {"case": case, **_record(scheduler, counts[scheduler.name], seconds), **over}


def _granted(scheduler: Scheduler, problem: Callable[[int], tuple[Supply, Waiting]], seed: int) -> int:
    return len(scheduler.grants(*problem(seed)))


def _contended(fits: Fits, load: float, seed: int) -> tuple[Supply, Waiting]:
    return contended(10_000, 100, fits, load=load, seed=seed)


def _whole(case: str, seed: int) -> tuple[Supply, Waiting]:
    return Workload.drawn(CASES[case], seed).at_once()


def _case(played: _Played, each: Each) -> Iterator[dict[str, object]]:
    yield from _in_one_pass(f"{played.case}, in one pass", partial(_whole, played.case), played.seeds, each)
    yield from _arriving(played, each)
    yield from _with_kept_shares(played, each)


def _arriving(played: _Played, each: Each) -> Iterator[dict[str, object]]:
    fair: dict[str, list[int]] = {}
    for scheduler in played.schedulers():
        key = _unlocking(scheduler)
        counts, seconds = each(partial(_replayed, played.case, scheduler), played.seeds_for(key))
        record = {"case": played.case, **_record(scheduler, counts, seconds)}
        published = played.published.get(f"{scheduler.name} {key}")
        if scheduler.name == "dpf":
            fair[key] = counts
        over = _over(counts, fair[key]) if scheduler.name == "dpack" and key in fair else {}
        yield record | over | ({"published": published} if published else {})


def _with_kept_shares(played: _Played, each: Each) -> Iterator[dict[str, object]]:
    for rule in (_arrivals(part, CASES[played.case].fair) for part in played.kept):
        counts, seconds = each(partial(_replayed_with_kept_shares, played.case, rule.claims), played.seeds)
        what = {"scheduler": "round-robin, shares kept", "unlocking": f"arrivals={rule.claims}"}
        yield {"case": played.case, **what, **_spread(counts, seconds)}


def _replayed_with_kept_shares(case: str, claims: int, seed: int) -> int:
    return KeptShares(Workload.drawn(CASES[case], seed), claims).run()


def _replayed(case: str, scheduler: Scheduler, seed: int) -> int:
    workload = Workload.drawn(CASES[case], seed)
    return Replay(workload, scheduler, tick_seconds=_TICK_SECONDS, at_arrivals=case != "many blocks, Renyi").run()


def _unlocking(scheduler: Scheduler) -> str:
    """As the keys of published figures: "arrivals=200"."""
    ((kind, value),) = dict(scheduler_to_json(scheduler)["unlocking"]).items()  # type: ignore[call-overload]
    return kind if value is True else f"{kind}={value}"


def _record(scheduler: Scheduler, counts: Sequence[int], seconds: float) -> dict[str, object]:
    return {"scheduler": scheduler.name, "unlocking": _unlocking(scheduler), **_spread(counts, seconds)}


def _spread(counts: Sequence[int], seconds: float) -> dict[str, object]:
    return {
        "granted": round(statistics.mean(counts), 1),
        "stderr": round(statistics.stdev(counts) / len(counts) ** 0.5, 2),
        "least": min(counts),
        "most": max(counts),
        "seeds": len(counts),
        "seconds": round(seconds, 2),
    }


def _over(packed: Sequence[int], fair: Sequence[int]) -> dict[str, object]:
    """DPack's grants over DPF's, seed by seed."""
    ratios = [mine / max(theirs, 1) for mine, theirs in zip(packed, fair, strict=True)]
    return {
        "over_dpf": round(statistics.mean(ratios), 4),
        "least_over_dpf": round(min(ratios), 4),
        "most_over_dpf": round(max(ratios), 4),
        "seeds_below_one": sum(ratio < 1 for ratio in ratios),
    }


def _composition(fits: Fits) -> str:
    return "basic" if fits == "every" else "Renyi"
