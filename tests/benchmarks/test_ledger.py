"""Eight processes on one ledger: what the benchmark prints, and that it would notice a lost or doubled debit."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from benchmarks._bare import BareRow
from benchmarks.ledger import check_totals, store_records
from lake.ledger import Ledger


@pytest.mark.slow
def test_debits_are_compared_with_bare_updates_and_totals_are_exact(tmp_path: Path) -> None:
    where, bare = str(tmp_path / "ledger"), str(tmp_path / "bare")
    records = list(store_records("sqlite", where, bare, turns=1))
    assert [record["case"] for record in records] == ["sqlite, bare", "sqlite, debit", "sqlite, release"]
    assert all(record["processes"] == 8 for record in records)
    updates, debits, releases = (int(str(record["done"])) for record in records)
    assert min(updates, debits, releases) > 0
    assert [record["share_of_bare"] for record in records] == [1, debits / updates, 3 * releases / updates]
    with Ledger.open(where) as ledger:  # every process ended one piece of work after its time
        entries = ledger.entries()
    states = [sum(entry.state == state for entry in entries) for state in ("reserved", "spent")]
    assert states == [debits + 8, releases + 8]
    done = {"bare": updates + 8, "debit": debits + 8, "release": releases + 8}
    check_totals(where, bare, done)
    for case, more in (("debit", 1), ("debit", -1), ("release", 1), ("bare", -1)):
        with pytest.raises(AssertionError, match="totals are"):
            check_totals(where, bare, {**done, case: done[case] + more})
    with closing(BareRow(bare)) as row:
        row.add()
    with pytest.raises(AssertionError, match="totals are"):
        check_totals(where, bare, done)
