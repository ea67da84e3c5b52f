"""Schedulers to and from JSON: what a ledger keeps in its settings, and what a steward may write there.

{"scheduler": "dpf", "unlocking": {"arrivals": 175}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dp.errors import InvalidArgument
from lake.scheduling.schedulers import DPF, DPack, FirstComeFirstServed, RoundRobin, Scheduler
from lake.scheduling.unlocking import AtOnce, ByArrivals, ByTime, Unlocking

__all__ = ["scheduler_from_json", "scheduler_to_json"]

_SCHEDULERS: dict[str, type[FirstComeFirstServed | RoundRobin | DPF | DPack]] = {
    cls.name: cls for cls in (FirstComeFirstServed, RoundRobin, DPF, DPack)
}
_OPTIONS = {DPack.name: "recompute_every"}


def _at_once(at_once: object) -> Unlocking:
    if at_once is not True:
        raise InvalidArgument("at_once", at_once, 'write {"at_once": true}')
    return AtOnce()


def _by_arrivals(arrivals: int) -> Unlocking:
    return ByArrivals(arrivals)


# By the fields that each has, of which the first must be there.
_UNLOCKINGS: dict[tuple[str, ...], Callable[..., Unlocking]] = {
    ("at_once",): _at_once,
    ("arrivals",): _by_arrivals,
    ("lifetime_seconds", "period_seconds"): ByTime,
}


def scheduler_to_json(scheduler: Scheduler) -> dict[str, object]:
    """The scheduler as a JSON object."""
    settings: dict[str, object] = {"scheduler": scheduler.name, "unlocking": _unlocking_to_json(scheduler.unlocking)}
    if isinstance(scheduler, DPack):
        settings["recompute_every"] = scheduler.recompute_every
    return settings


def scheduler_from_json(settings: object) -> Scheduler:
    """Read what `scheduler_to_json` wrote.

    Args:
        settings: an object with the scheduler's name and its unlocking; for "dpack" also recompute_every, which may
            be left out.

    Raises:
        InvalidArgument: another name, a missing or unknown field, or a value out of range.
    """
    if not isinstance(settings, Mapping):
        raise InvalidArgument("scheduler", settings, 'write {"scheduler": "dpf", "unlocking": {"arrivals": 175}}')
    name = settings.get("scheduler")
    if not isinstance(name, str) or name not in _SCHEDULERS:
        raise InvalidArgument("scheduler", name, f"the schedulers are {', '.join(sorted(_SCHEDULERS))}")
    options = {field: value for field, value in settings.items() if field not in ("scheduler", "unlocking")}
    unknown = options.keys() - {_OPTIONS.get(name)}
    if unknown:
        raise InvalidArgument("scheduler", sorted(map(str, unknown)), f"{name} has no such settings: leave them out")
    return _SCHEDULERS[name](_unlocking_from_json(settings.get("unlocking")), **options)


def _unlocking_to_json(unlocking: Unlocking) -> dict[str, object]:
    if isinstance(unlocking, ByArrivals):
        return {"arrivals": unlocking.claims}
    if isinstance(unlocking, ByTime):
        period = {"period_seconds": unlocking.period_seconds} if unlocking.period_seconds else {}
        return {"lifetime_seconds": unlocking.lifetime_seconds, **period}
    return {"at_once": True}


def _unlocking_from_json(settings: object) -> Unlocking:
    for fields, rule in _UNLOCKINGS.items():
        if isinstance(settings, Mapping) and {fields[0]} <= settings.keys() <= set(fields):
            return rule(**settings)
    remedy = 'write {"at_once": true}, {"arrivals": 175} or {"lifetime_seconds": 86400, "period_seconds": 600}'
    raise InvalidArgument("unlocking", settings, remedy)
