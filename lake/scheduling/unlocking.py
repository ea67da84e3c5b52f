"""How much of a block is open to claims: a share of its capacity that only grows.

The share is an exact fraction and is kept by the caller, per block. Each rule says what the share becomes when
something happens, from what it was: so a ledger may change the rule, or its number, and nothing that was unlocked is
locked again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from dp.errors import InvalidArgument

__all__ = ["AtOnce", "ByArrivals", "ByTime", "Unlocking", "opened_by_time"]

_WHOLE = Fraction(1)


class Unlocking(Protocol):
    """A rule by which blocks unlock.

    Guarantees:
        Shares that come out are in [share, 1], and all depends on nothing but the arguments.
    """

    def counts_until(self, now: float) -> float:
        """The moment until which time counts when somebody looks, at most now.

        Args:
            now: seconds since the epoch.
        """

    def after_arrival(self, share: Fraction) -> Fraction:
        """The unlocked share after one more claim arrived that demands something of the block.

        Args:
            share: what was unlocked before, in [0, 1].
        """

    def after_time(self, share: Fraction, elapsed_milliseconds: int) -> Fraction:
        """The unlocked share after time passed.

        Args:
            share: what was unlocked before, in [0, 1].
            elapsed_milliseconds: since the share was last set for time, >= 0.

        Raises:
            InvalidArgument: a negative time.
        """


@dataclass(frozen=True)
class AtOnce:
    """A block is open from its first moment, and from the moment in which this rule is chosen."""

    def counts_until(self, now: float) -> float:
        return now

    def after_arrival(self, share: Fraction) -> Fraction:
        return _WHOLE

    def after_time(self, share: Fraction, elapsed_milliseconds: int) -> Fraction:
        _require_elapsed(elapsed_milliseconds)
        return _WHOLE

    def __str__(self) -> str:
        return "a block is open at once"


@dataclass(frozen=True)
class ByArrivals:
    """Each claim that arrives unlocks one part in `claims` of every block of which it demands something.

    Args:
        claims: N, how many claims unlock a block, >= 1.

    Raises:
        InvalidArgument: not a whole number >= 1.

    Source:
        DPF-N: Luo et al. 2021 (PrivateKube, OSDI), section 4.
    """

    claims: int

    def __post_init__(self) -> None:
        _require_count("arrivals", self.claims, "175")

    def counts_until(self, now: float) -> float:
        return now

    def after_arrival(self, share: Fraction) -> Fraction:
        return min(_WHOLE, share + Fraction(1, self.claims))

    def after_time(self, share: Fraction, elapsed_milliseconds: int) -> Fraction:
        _require_elapsed(elapsed_milliseconds)
        return share

    def __str__(self) -> str:
        return f"a block unlocks over {self.claims:,} claim{'s'[: self.claims > 1]}"


@dataclass(frozen=True)
class ByTime:
    """A block unlocks evenly while it lives.

    Args:
        lifetime_seconds: L, in whole seconds, >= 1.
        period_seconds: T, in whole seconds: what a period unlocks is there when it ends, in all blocks at once, so that
            those who came meanwhile compete for it. Periods count from the epoch. 0: every moment unlocks its part.

    Raises:
        InvalidArgument: L is not a whole number >= 1, or T not one >= 0.

    Source:
        DPF-T: Luo et al. 2021 (PrivateKube, OSDI), section 4.
    """

    lifetime_seconds: int
    period_seconds: int = 0

    def __post_init__(self) -> None:
        _require_count("lifetime_seconds", self.lifetime_seconds, "86400")
        _require_count("period_seconds", self.period_seconds, "600", least=0)

    def counts_until(self, now: float) -> float:
        return int(now) // self.period_seconds * self.period_seconds if self.period_seconds else now

    def after_arrival(self, share: Fraction) -> Fraction:
        return share

    def after_time(self, share: Fraction, elapsed_milliseconds: int) -> Fraction:
        _require_elapsed(elapsed_milliseconds)
        return min(_WHOLE, share + Fraction(elapsed_milliseconds, 1000 * self.lifetime_seconds))

    def __str__(self) -> str:
        whole = f"a block unlocks over {_seconds(self.lifetime_seconds)}"
        return f"{whole}, every {_seconds(self.period_seconds)}" if self.period_seconds else whole


def opened_by_time(rule: Unlocking, share: Fraction, since: float, now: float) -> tuple[Fraction, float]:
    """The unlocked share when somebody looks, and the moment until which time is counted in it.

    Both are of whole milliseconds, so that the next look goes on exactly there.

    Args:
        rule: by which it unlocks.
        share: what was unlocked before.
        since: the moment until which time was counted, in seconds since the epoch.
        now: the present; before `since` if the clock was set back, and then no time has passed.
    """
    begin, end = round(since * 1000), math.floor(rule.counts_until(now) * 1000)
    if end <= begin:
        return rule.after_time(share, 0), since
    return rule.after_time(share, end - begin), end / 1000


def _seconds(count: int) -> str:
    return f"{count:,} second{'s'[: count > 1]}"


def _require_count(parameter: str, value: object, example: str, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        above = "above zero" if least else "not below zero"
        raise InvalidArgument(parameter, value, f"give a whole number {above}, such as {example}")


def _require_elapsed(milliseconds: int) -> None:
    if milliseconds < 0:
        raise InvalidArgument("elapsed_milliseconds", milliseconds, "time never runs backwards here: give 0 or more")
