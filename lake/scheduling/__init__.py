"""Which of the waiting claims get budget: schedulers over blocks, as pure functions of integers.

A scheduler is given what every block has left and what every waiting claim wants, and answers whom to grant, in order.
It knows no database and no clock: who keeps a ledger calls it within a transaction, and grants what it says. Modules,
each standing on those before it:

    unlocking    how much of a block is open to claims: at once, with arrivals, with time
    problem      Supply and Waiting: the blocks and the claims, in grains
    grains       exact budgets as 64-bit integers, or rounded so that nothing fits that should not
    granting     claims in a given order, each granted if it fits
    dominance    claims in the order of their dominant shares
    fairness     the max-min share of every waiter of a block
    packing      which order of a block to spend, what a claim costs there, who gets most weight for cost
    schedulers   first come first served, round robin, DPF, DPack
    settings     schedulers to and from JSON
"""

from __future__ import annotations

from lake.scheduling.grains import distinct, in_grains
from lake.scheduling.problem import Fits, Supply, Waiting
from lake.scheduling.schedulers import DPF, DPack, FirstComeFirstServed, RoundRobin, Scheduler
from lake.scheduling.settings import scheduler_from_json, scheduler_to_json
from lake.scheduling.unlocking import AtOnce, ByArrivals, ByTime, Unlocking, opened_by_time

__all__ = [
    "DPF",
    "AtOnce",
    "ByArrivals",
    "ByTime",
    "DPack",
    "FirstComeFirstServed",
    "Fits",
    "RoundRobin",
    "Scheduler",
    "Supply",
    "Unlocking",
    "Waiting",
    "distinct",
    "in_grains",
    "opened_by_time",
    "scheduler_from_json",
    "scheduler_to_json",
]
