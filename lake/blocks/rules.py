"""Rules that cut a table into blocks: by windows of time, by ranges of users, or by both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dp.errors import InvalidArgument
from dp.frames.units import window_seconds
from dp.planning.query import digest
from lake.blocks.block import Block
from lake.blocks.instants import DAY, LAST, Instant, seconds_of, text_of
from lake.blocks.selectors import Condition, Selector

__all__ = ["MOST_BLOCKS", "MOST_RANGES", "Blocks", "Windows"]

MOST_BLOCKS = 2**20
"""A selection has at most so many: a ledger keeps an account for each."""

MOST_RANGES = 2**16

_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_WHOLE = "whole"  # what a ledger calls the budget that is not cut
_RANGE = re.compile(r"users-([0-9]{1,5})-of-[0-9]{1,5}")
_UNITS = {"week": 7 * DAY, "day": DAY, "hour": 3600, "minute": 60, "second": 1}
_FORMAT = 1


@dataclass(frozen=True)
class Windows:
    """Windows of time, from `since` onwards, aligned to 1970-01-01 UTC as those of `dp.window` are.

    Attributes:
        column: a date or a timestamp with time zone.
        seconds: the length of each.
        since: where the first one begins, in seconds since 1970-01-01 UTC; a multiple of the length.
    """

    column: str
    seconds: int
    since: int

    def __post_init__(self) -> None:
        if not isinstance(self.column, str) or not self.column:
            raise InvalidArgument("column", self.column, "name a date or timestamp column of the table")
        if self.since % self.seconds or self.since > LAST:
            near = text_of(min(self.since, LAST) // self.seconds * self.seconds)
            remedy = f"windows of {self.length} are aligned to 1970-01-01 UTC: begin at {near}, or one window later"
            raise InvalidArgument("since", text_of(self.since), remedy)

    @property
    def length(self) -> str:
        """The length in its largest whole unit: "1 day"."""
        unit, seconds = next((unit, of) for unit, of in _UNITS.items() if self.seconds % of == 0)
        count = self.seconds // seconds
        return f"{count} {unit}{'s' if count > 1 else ''}"

    def starts(self, first: int | None, last: int) -> range:
        """The windows that begin from `first` to `last`, both included, in seconds; None: from the first window on."""
        begin = self.since
        if first is not None and first > begin:
            begin += -(-(first - begin) // self.seconds) * self.seconds
        return range(begin, min(last, LAST) + 1, self.seconds)

    def text(self, start: int) -> str:
        """A window's name: a day where windows are whole days, else an instant."""
        return text_of(start, days=self.seconds % DAY == 0)


@dataclass(frozen=True)
class Blocks:
    """A rule that cuts a table into private blocks; made by `every` or `users`. Two equal rules make equal blocks.

    Attributes:
        name: of the layout; the first part of its blocks' names.
        windows: how time cuts; None where it does not.
        user_ranges: in how many ranges users are cut, by a hash of the unit's columns; None where they are not.

    Guarantees: every row, and with a unit that fits (see `lake.Table.forPath`) every unit, lies in at most one block;
        in none if its time is NULL or before the first window, or if its unit is NULL.
    Leaks: the rule is public, and so is which blocks exist: it depends on the rule and the clock, on no row.
    """

    name: str
    windows: Windows | None
    user_ranges: int | None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name) or self.name == _WHOLE:
            remedy = f'give 1 to 64 of a-z, 0-9, - and _, as in "visits"; {_WHOLE!r} is what is not cut'
            raise InvalidArgument("name", self.name, remedy)
        if self.user_ranges is not None:
            _check_ranges(self.user_ranges)
        if self.windows is None and self.user_ranges is None:
            raise InvalidArgument("blocks", self.name, "say how to cut: Blocks.every(...) or Blocks.users(...)")

    @classmethod
    def every(cls, length: str, column: str, *, since: Instant, name: str, users: int | None = None) -> Blocks:
        """A block per window of time; with `users`, one per window and range of users.

        Args:
            length: as in `dp.window`: "1 day", "6 hours". Windows are aligned to 1970-01-01 UTC, so weeks begin on
                Thursdays.
            column: a date or a timestamp with time zone of the table.
            since: where the first window begins. Rows before it are in no block, and are never read.
            name: of the layout.
            users: ranges of users within each window; see `users`.

        Raises:
            InvalidArgument: another length, or a `since` at which no window begins.
        """
        return cls(name, Windows(column, window_seconds(length), seconds_of(since, "since")), users)

    @classmethod
    def users(cls, ranges: int, *, name: str) -> Blocks:
        """A block per range of a hash of the columns of the table's unit; for a `dp.window`, of its ids.

        Args:
            ranges: how many, 1..MOST_RANGES. `user_ranges` chooses it from a private count.
            name: of the layout.

        Raises:
            InvalidArgument: another number.
        """
        return cls(name, None, _check_ranges(ranges))

    @property
    def fingerprint(self) -> str:
        """A hash of the rule: two rules with one name may cut otherwise, and then differ in it."""
        return digest(self.to_json()).hex()

    def due(self, at: datetime | float) -> tuple[Block, ...]:
        """The blocks that exist at a moment: those whose window has begun, in order.

        Args:
            at: a datetime with a zone, or seconds since 1970-01-01 UTC.

        Raises:
            InvalidArgument: no such moment, or more than MOST_BLOCKS.
        """
        return self.matching(Selector(), at)

    def matching(self, selector: Selector, at: datetime | float) -> tuple[Block, ...]:
        """The blocks of a selector that exist at a moment, in order; maybe none.

        Args:
            selector: which ones.
            at: as in `due`.

        Raises:
            InvalidArgument: a selector over something that this rule does not cut, or over places where no block can
                be; no such moment; more than MOST_BLOCKS.
        """
        if not isinstance(selector, Selector):
            raise InvalidArgument("selector", repr(selector), 'write it with TIME and USERS: TIME >= "2026-03-01"')
        for condition in selector.conditions:
            self._check(condition)
        return tuple(block for block in self._made(self._starts(selector, _moment(at))) if selector.matches(block))

    def block(self, name: str) -> Block:
        """The block of a name.

        Raises:
            InvalidArgument: a name that this rule never gives.
        """
        made = self._parsed(name)
        if made is None or made.name != name:
            raise InvalidArgument("block", name, f"{self} makes no such block; its names look like {self._example}")
        return made

    def to_json(self) -> dict[str, object]:
        """The rule for the record."""
        windows = None
        if self.windows is not None:
            windows = {**vars(self.windows), "since": text_of(self.windows.since)}
        return {"format": _FORMAT, "name": self.name, "windows": windows, "user_ranges": self.user_ranges}

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> Blocks:
        """Read what `to_json` wrote.

        Raises:
            InvalidArgument: anything else.
        """
        match fields:
            case {"format": 1, "name": str(name), "windows": None, "user_ranges": int(ranges)}:
                rule = cls.users(ranges, name=name)
            case {
                "format": 1,
                "name": str(name),
                "windows": {"column": str(column), "seconds": int(seconds), "since": str(since)},
                "user_ranges": ranges,
            } if type(seconds) is int and seconds > 0 and (ranges is None or isinstance(ranges, int)):
                rule = cls(name, Windows(column, seconds, seconds_of(since, "since")), ranges)
            case _:
                raise InvalidArgument("blocks", fields, "give what Blocks.to_json() wrote")
        if rule.to_json() != fields:
            raise InvalidArgument("blocks", fields, f"write it canonically: {rule.to_json()}")
        return rule

    def __str__(self) -> str:
        parts = [] if self.windows is None else [f"every {self.windows.length} of {self.windows.column}"]
        parts += [] if self.user_ranges is None else [f"{self.user_ranges} range(s) of users"]
        return f"layout {self.name!r} ({', '.join(parts)})"

    @property
    def _example(self) -> str:
        start = None if self.windows is None else self.windows.since
        return self._one(start, None if self.user_ranges is None else 0).name

    def _check(self, condition: Condition) -> None:
        """Refuse a condition that no block of this rule can satisfy, whatever the clock says."""
        cuts = self.windows if condition.dimension == "time" else self.user_ranges
        if cuts is None:
            raise InvalidArgument("selector", str(condition), f"{self} is not cut by {condition.dimension}")
        if condition.exact:
            for place in condition.values:
                if not self._is_place(condition.dimension, place):
                    raise InvalidArgument("selector", str(condition), f"{self} has no block there")

    def _is_place(self, dimension: str, place: int) -> bool:
        if dimension == "users":
            return place < (self.user_ranges or 0)
        return self.windows is not None and place in self.windows.starts(None, LAST)

    def _starts(self, selector: Selector, at: int) -> range | tuple[None]:
        if self.windows is None:
            return (None,)
        first, last = selector.time_span
        starts = self.windows.starts(first, at if last is None else min(at, last))
        if len(starts) * (self.user_ranges or 1) > MOST_BLOCKS:
            remedy = f"more than {MOST_BLOCKS:,} blocks: take longer windows, a later since, or a narrower selector"
            raise InvalidArgument("blocks", str(self), remedy)
        return starts

    def _made(self, starts: Iterable[int | None]) -> Iterable[Block]:
        ranges: Iterable[int | None] = (None,) if self.user_ranges is None else range(self.user_ranges)
        return (self._one(start, one) for start in starts for one in ranges)

    def _one(self, start: int | None, user_range: int | None) -> Block:
        parts, end = [self.name], None
        if self.windows is not None and start is not None:
            parts, end = [*parts, self.windows.text(start)], start + self.windows.seconds
        if user_range is not None:
            of = str(self.user_ranges)
            parts.append(f"users-{user_range:0{len(of)}d}-of-{of}")
        return Block("/".join(parts), start, end, user_range)

    def _parsed(self, name: object) -> Block | None:
        """The block whose name this might be; None where it has not even the form."""
        if not isinstance(name, str) or not name.startswith(f"{self.name}/"):
            return None
        parts = name.split("/")[1:]
        start = user_range = None
        if self.windows is not None:
            start = _parsed_start(parts.pop(0))
            if start is None or start not in self.windows.starts(None, LAST):
                return None
        if self.user_ranges is not None:
            found = _RANGE.fullmatch(parts.pop(0)) if parts else None
            if found is None or int(found[1]) >= self.user_ranges:
                return None
            user_range = int(found[1])
        return self._one(start, user_range)


def _parsed_start(text: str) -> int | None:
    try:
        return seconds_of(text, "block")
    except InvalidArgument:
        return None


def _check_ranges(ranges: object) -> int:
    if isinstance(ranges, bool) or not isinstance(ranges, int) or not 1 <= ranges <= MOST_RANGES:
        raise InvalidArgument("users", ranges, f"give the number of ranges, from 1 to {MOST_RANGES}")
    return ranges


def _moment(at: object) -> int:
    """A moment as whole seconds, rounded down."""
    if isinstance(at, datetime):
        return seconds_of(at.replace(microsecond=0), "at")
    if isinstance(at, bool) or not isinstance(at, int | float) or not abs(at) < 10**12:
        raise InvalidArgument("at", at, "give a datetime with a zone, or seconds since 1970-01-01 UTC")
    return int(at // 1)
