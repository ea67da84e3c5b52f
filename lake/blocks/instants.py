"""Instants at which blocks begin: whole seconds since 1970-01-01 UTC, and their text."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from dp.errors import InvalidArgument

__all__ = ["DAY", "LAST", "Instant", "seconds_of", "text_of"]

Instant = str | date | datetime
"""What a caller may write for an instant: "2026-03-01" (midnight UTC), "2026-03-01T06:00:00Z", a date, a datetime."""

DAY = 86_400

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_REMEDY = 'give a day such as "2026-03-01" (from midnight UTC), or an instant with its zone: "2026-03-01T06:00:00Z"'

LAST = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
"""No window begins later: years have four digits."""


def seconds_of(instant: object, parameter: str) -> int:
    """An instant as whole seconds since 1970-01-01 UTC.

    Args:
        instant: see `Instant`.
        parameter: the caller's parameter, for the error.

    Raises:
        InvalidArgument: no instant, one without a zone, or one between two seconds.
    """
    try:
        moment = _moment(instant)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.microsecond:
        raise InvalidArgument(parameter, str(instant), _REMEDY)
    return (moment - _EPOCH) // timedelta(seconds=1)


def text_of(seconds: int, *, days: bool = False) -> str:
    """The canonical text of an instant: "2026-03-01T06:00:00Z", or the day alone.

    Args:
        seconds: since 1970-01-01 UTC.
        days: write "2026-03-01", for instants that are all midnights.
    """
    text = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    return text[:10] if days else f"{text}Z"


def _moment(instant: object) -> datetime | None:
    if isinstance(instant, datetime):
        return instant
    if isinstance(instant, str):
        if not _DATE.fullmatch(instant):
            return datetime.fromisoformat(instant)
        instant = date.fromisoformat(instant)
    return datetime(instant.year, instant.month, instant.day, tzinfo=UTC) if isinstance(instant, date) else None
