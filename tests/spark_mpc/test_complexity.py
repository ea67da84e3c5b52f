"""The page of costs says what is declared, and every program on it sends that."""

from __future__ import annotations

from typing import Any

import pytest

from spark_mpc.protocols.engine import Engine
from tests.tools.complexity import PAGE, PRIMITIVES, PROGRAMS, operands, page
from tests.tools.conformance import Operands, measured


def test_the_page_is_what_the_declarations_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.tools.complexity`"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_row_of_the_page_sends_what_is_declared(name: str) -> None:
    def program(engine: Engine, given: Operands) -> list[Any]:
        PROGRAMS[name](engine, given)
        return []

    if "expected" in name:  # how often rows are compared depends on their random order, of few rows more than of many
        both = measured(program, operands(1 << 13))
        assert both.sent_bytes == pytest.approx(both.declared.sent_bytes, rel=0.2)
        return
    both = measured(program, operands(300))
    assert both.sent_bytes == both.declared.sent_bytes
    assert both.rounds <= both.declared.rounds
    if name in PRIMITIVES:  # on one chunk nothing overlaps but what party 0 alone sends
        assert both.rounds >= both.declared.rounds - 1
