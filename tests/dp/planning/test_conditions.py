"""Conditions that fix values: what is read from them, and what is left alone."""

from __future__ import annotations

import pytest

from dp.planning.conditions import allowed_values, trailing_conditions, typed
from dp.planning.facts import Key


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("ward = 'a'", {"ward": {"a"}}),
        ("`ward` = 'a'", {"ward": {"a"}}),
        ("ward IN ('a', 'b')", {"ward": {"a", "b"}}),
        ("year = 2025", {"year": {2025}}),
        ("year IN (-1, 2)", {"year": {-1, 2}}),
        ("open = true", {"open": {True}}),
        ("open = 1", {"open": {1}}),
        ("(ward = 'a') AND year IN (1, 2)", {"ward": {"a"}, "year": {1, 2}}),
        ("year IN (1, 2) AND year IN (2, 3)", {"year": {2}}),
        ("ward = 'a' AND ward = 'b'", {"ward": set[Key]()}),
        (r"ward = 'o\'neil'", {"ward": {"o'neil"}}),
    ],
)
def test_equalities_and_lists_are_understood(condition: str, expected: dict[str, set[Key]]) -> None:
    assert allowed_values(condition) == {
        column: frozenset(typed(value) for value in values) for column, values in expected.items()
    }


@pytest.mark.parametrize(
    "condition",
    [
        "ward <> 'a'",
        "ward = 'a' OR ward = 'b'",
        "NOT ward = 'a'",
        "NOT ward IN ('a')",
        "ward <=> 'a'",
        "ward IN ('a', NULL)",
        "ward = NULL",
        "ward = other",
        "lower(ward) = 'a'",
        "person.ward = 'a'",
        "ward LIKE 'a'",
        "year = 1.0",
        "year = 1e3",
        "year = 1L",
        "year > 2024",
        "year + 0 = 2025",
        "day = date '2025-01-01'",
        "'a' = ward",
        "ward = 'a' AND cost > 3",
        "at = timestamp '2025-01-01 00:00:00' (time zone UTC)",
        "no condition at all",
        "",
    ],
)
def test_whatever_else_a_condition_says_is_not_guessed(condition: str) -> None:
    assert allowed_values(condition) is None


def test_true_and_one_are_different_values() -> None:
    assert allowed_values("open = true") != allowed_values("open = 1")


def test_only_the_last_steps_are_about_the_columns_that_a_query_sees() -> None:
    steps = ("where ward = 'x'", "withColumn ward = lower(ward)", "where year = 1", "where ward = 'a'")
    assert list(trailing_conditions(steps)) == ["ward = 'a'", "year = 1"]
    assert list(trailing_conditions(())) == []
