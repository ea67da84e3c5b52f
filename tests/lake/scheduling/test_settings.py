"""Schedulers as settings: they survive JSON, and what is not one of them is refused."""

from __future__ import annotations

import json

import pytest

from dp.errors import InvalidArgument
from lake.scheduling import (
    DPF,
    AtOnce,
    ByArrivals,
    ByTime,
    DPack,
    FirstComeFirstServed,
    RoundRobin,
    scheduler_from_json,
    scheduler_to_json,
)

KNOWN = [
    (
        FirstComeFirstServed(),
        {"scheduler": "fcfs", "unlocking": {"at_once": True}},
        "first come first served, a block is open at once",
    ),
    (
        RoundRobin(ByTime(1)),
        {"scheduler": "round-robin", "unlocking": {"lifetime_seconds": 1}},
        "round robin, a block unlocks over 1 second",
    ),
    (
        DPF(ByArrivals(175)),
        {"scheduler": "dpf", "unlocking": {"arrivals": 175}},
        "DPF, a block unlocks over 175 claims",
    ),
    (
        DPack(ByTime(86400), 20),
        {"scheduler": "dpack", "unlocking": {"lifetime_seconds": 86400}, "recompute_every": 20},
        "DPack, a block unlocks over 86,400 seconds",
    ),
    (
        DPack(ByTime(86400, 600)),
        {
            "scheduler": "dpack",
            "unlocking": {"lifetime_seconds": 86400, "period_seconds": 600},
            "recompute_every": 50,
        },
        "DPack, a block unlocks over 86,400 seconds, every 600 seconds",
    ),
]


@pytest.mark.parametrize(("scheduler", "settings", "text"), KNOWN)
def test_json_and_text(scheduler, settings, text):
    assert scheduler_to_json(scheduler) == settings
    assert scheduler_from_json(json.loads(json.dumps(settings))) == scheduler
    assert str(scheduler) == text


def test_the_interval_may_be_left_out():
    read = scheduler_from_json({"scheduler": "dpack", "unlocking": {"at_once": True}})
    assert read == DPack(AtOnce(), recompute_every=50)


@pytest.mark.parametrize(
    ("settings", "parameter"),
    [
        (None, "scheduler"),
        ("dpf", "scheduler"),
        ({}, "scheduler"),
        ({"scheduler": "DPF", "unlocking": {"arrivals": 1}}, "scheduler"),
        ({"scheduler": ["dpf"], "unlocking": {"arrivals": 1}}, "scheduler"),
        ({"scheduler": "dpf"}, "unlocking"),
        ({"scheduler": "dpf", "unlocking": 175}, "unlocking"),
        ({"scheduler": "dpf", "unlocking": {}}, "unlocking"),
        ({"scheduler": "dpf", "unlocking": {"arrivals": 1, "lifetime_seconds": 1}}, "unlocking"),
        ({"scheduler": "dpf", "unlocking": {"moons": 1}}, "unlocking"),
        ({"scheduler": "dpf", "unlocking": {"arrivals": 0}}, "arrivals"),
        ({"scheduler": "dpf", "unlocking": {"arrivals": "175"}}, "arrivals"),
        ({"scheduler": "dpf", "unlocking": {"lifetime_seconds": 0.5}}, "lifetime_seconds"),
        ({"scheduler": "dpf", "unlocking": {"period_seconds": 5}}, "unlocking"),
        ({"scheduler": "dpf", "unlocking": {"arrivals": 1, "period_seconds": 5}}, "unlocking"),
        ({"scheduler": "dpf", "unlocking": {"lifetime_seconds": 9, "period_seconds": -5}}, "period_seconds"),
        ({"scheduler": "dpf", "unlocking": {"at_once": False}}, "at_once"),
        ({"scheduler": "dpf", "unlocking": {"arrivals": 1}, "recompute_every": 5}, "scheduler"),
        ({"scheduler": "dpack", "unlocking": {"arrivals": 1}, "recompute_every": 0}, "recompute_every"),
        ({"scheduler": "dpack", "unlocking": {"arrivals": 1}, "name": "fcfs"}, "scheduler"),
    ],
)
def test_what_is_no_scheduler_is_refused(settings, parameter):
    with pytest.raises(InvalidArgument) as refused:
        scheduler_from_json(settings)
    assert refused.value.parameter == parameter
    assert refused.value.remedy
