"""Column names as Spark's parser takes them."""

from __future__ import annotations

__all__ = ["quoted"]


def quoted(column: str) -> str:
    """The name between backticks, so that dots, spaces and keywords in it mean nothing."""
    return "`" + column.replace("`", "``") + "`"
