"""The page of costs says what is declared."""

from __future__ import annotations

from tests.tools.complexity import PAGE, page


def test_the_page_is_what_the_declarations_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.tools.complexity`"
