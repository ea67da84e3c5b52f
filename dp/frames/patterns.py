"""Patterns of LIKE and of regular expressions whose matching neither raises nor takes exponential time.

A backtracking matcher needs exponential time where repetitions are nested or alternatives overlap: a pattern could
make one row's value visible on the clock. What is accepted here is a plain sequence of characters and classes, of
which few are repeated.
"""

from __future__ import annotations

import re

from dp.errors import InvalidArgument

__all__ = ["check_like", "check_regex"]

_MOST_WILDCARDS = 3
_MOST_REPEATS = 64
_ATOM = r"(?:\\[dDwWsS]|\\[^A-Za-z0-9]|\.|\[\^?(?:\\[dDwWsS\\\]\[^\-&]|[^\\\[\]&])+\]|[^\\.\[\]{}()*+?^$|])"
_REPEAT = r"(?:[*+?]|\{\d{1,2}(?:,\d{0,2})?\})?"
_REGEX = re.compile(rf"\^?(?:{_ATOM}{_REPEAT})+\$?|\^\$?|\$", re.DOTALL)
_ITEM = re.compile(rf"({_ATOM})([*+?]|\{{\d{{1,2}}(?:,\d{{0,2}})?\}})?", re.DOTALL)
_BAD_ESCAPE = re.compile(r"^(?:[^\\]|\\[%_\\])*\\(?:$|[^%_\\])", re.DOTALL)


def check_like(pattern: str) -> None:
    r"""Refuse a LIKE pattern that raises, or that has many places to try.

    Raises:
        InvalidArgument: an escape of something else than %, _ and \, or more than 3 times %.
    """
    if _BAD_ESCAPE.search(pattern):
        raise InvalidArgument("pattern", pattern, r"escape nothing but %, _ and \ itself")
    if re.sub(r"\\.", "", pattern).count("%") > _MOST_WILDCARDS:
        raise InvalidArgument("pattern", pattern, f"write % at most {_MOST_WILDCARDS} times: matching would take long")


def check_regex(pattern: str) -> None:
    r"""Refuse a regular expression outside of a small language that is matched in little time.

    It has literal characters, escaped punctuation, `.`, \d \w \s, classes such as [a-z_] and [^,], each of them
    repeated by *, +, ?, {n} or {n,m} (at most 2 times without an end), between an optional ^ and $.

    Raises:
        InvalidArgument: groups, alternatives, references, look-around, nested or many repetitions.
    """
    if not _REGEX.fullmatch(pattern):
        remedy = r"use characters, \-escapes, classes like [a-z], and * + ? {n,m} after one of them; no ( ) |"
        raise InvalidArgument("pattern", pattern, remedy)
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidArgument("pattern", pattern, f"it is no regular expression: {error.msg}") from None
    repeats = [found[1] for found in _ITEM.findall(pattern.removeprefix("^"))]
    endless = sum(repeat in ("*", "+") or repeat.endswith(",}") for repeat in repeats)
    if endless > 2 or sum(map(_repeats, repeats)) > _MOST_REPEATS:
        raise InvalidArgument(
            "pattern", pattern, f"repeat at most 2 times without an end, {_MOST_REPEATS} times in all"
        )


def _repeats(repeat: str) -> int:
    return max((int(number) for number in re.findall(r"\d+", repeat)), default=1 if repeat == "?" else 0)
