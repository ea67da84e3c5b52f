"""A workload played through a scheduler: claims arrive, blocks unlock, and whoever is granted has it for good."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from benchmarks._scheduling_workload import Bools, Ints, Workload
from lake.scheduling import RoundRobin, Scheduler, Supply

__all__ = ["Replay"]


class Replay:
    """One run of one scheduler.

    A pass is made at every arrival and every `tick_seconds`, or at ticks alone. It looks at those claims alone for
    which it can matter: a claim that did not fit when the last pass ended fits only where a block unlocked more since.
    Round robin, whose shares depend on everybody, looks at everybody.

    Args:
        workload: who arrives when.
        scheduler: what is played.
        tick_seconds: when time unlocks.
        at_arrivals: whether there is a pass at every arrival too.
    """

    def __init__(self, workload: Workload, scheduler: Scheduler, *, tick_seconds: float, at_arrivals: bool) -> None:
        self._load, self._scheduler = workload, scheduler
        self._tick, self._at_arrivals = tick_seconds, at_arrivals
        blocks = len(workload.born)
        self._share = [scheduler.unlocking.after_time(Fraction(0), 0)] * blocks
        self._told = [round(1000 * born) for born in workload.born.tolist()]
        self._granted = np.zeros((blocks, len(workload.capacity)), dtype=np.int64)
        self._unlocked = np.stack([self._unlocked_at(share) for share in self._share])
        self._grown = np.zeros(blocks, dtype=bool)
        self._waiting = np.arange(0)
        self.count = 0

    def run(self) -> int:
        """How many claims were granted when it ends."""
        start, n = 0, len(self._load.at)
        for time in self._times().tolist():
            end = int(np.searchsorted(self._load.at, time, side="right"))
            if self._at_arrivals:
                for claim in range(start, end):
                    self._arrive(claim, claim + 1)
                    self._pass(self._load.at[claim], claim)
            else:
                self._arrive(start, end)
            self._unlock_with_time(time)
            self._pass(time, end if self._at_arrivals else start)
            start = end
        assert start == n
        return self.count

    def _times(self) -> Ints:
        end = self._load.case.horizon_seconds
        return np.append(np.arange(self._tick, end, self._tick), end)

    def _arrive(self, start: int, end: int) -> None:
        self._waiting = np.concatenate((self._waiting, np.arange(start, end)))
        for low, high in zip(self._load.low[start:end].tolist(), self._load.high[start:end].tolist(), strict=True):
            for block in range(low, high + 1):
                self._set_share(block, self._scheduler.unlocking.after_arrival(self._share[block]))

    def _unlock_with_time(self, time: float) -> None:
        now = round(1000 * time)
        for block, told in enumerate(self._told):
            if told < now and self._share[block] < 1:
                self._set_share(block, self._scheduler.unlocking.after_time(self._share[block], now - told))
                self._told[block] = now

    def _set_share(self, block: int, share: Fraction) -> None:
        if share != self._share[block]:
            self._share[block], self._grown[block] = share, True
            self._unlocked[block] = self._unlocked_at(share)

    def _unlocked_at(self, share: Fraction) -> Ints:
        return np.array([int(c) * share.numerator // share.denominator for c in self._load.capacity], dtype=np.int64)

    def _pass(self, time: float, new_from: int) -> None:
        self._waiting = self._waiting[self._load.at[self._waiting] > time - self._load.case.timeout_seconds]
        looked_at = self._waiting
        if not isinstance(self._scheduler, RoundRobin):
            grown = np.concatenate(([0], np.cumsum(self._grown)))
            touched = grown[self._load.high[looked_at] + 1] > grown[self._load.low[looked_at]]
            looked_at = looked_at[touched | (looked_at >= new_from)]
        self._grown[:] = False
        available = self._unlocked - self._granted
        fitting = self._fitting(looked_at, available)
        if not len(fitting):
            return
        waiting = self._load.waiting(looked_at if isinstance(self._scheduler, RoundRobin) else fitting)
        capacity = np.broadcast_to(self._load.capacity, available.shape)
        granted = self._scheduler.grants(Supply(capacity, available, self._load.case.fits), waiting)
        if len(granted):
            taken = waiting.taken(granted)
            np.add.at(self._granted, taken.block, taken.demand)
            self._waiting = np.setdiff1d(self._waiting, taken.number, assume_unique=True)
            self.count += len(granted)

    def _fitting(self, claims: Ints, available: Ints) -> Ints:
        """The claims that would fit alone."""
        for step in range(int((self._load.high - self._load.low)[claims].max(initial=-1)) + 1):
            block = np.minimum(self._load.low[claims] + step, self._load.high[claims])
            within: Bools = self._load.demand[claims] <= available[block]
            claims = claims[within.all(axis=1) if self._load.case.fits == "every" else within.any(axis=1)]
        return claims
