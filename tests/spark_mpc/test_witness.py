"""What people are told of peers' ledgers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from dp.accounting.budget import PureDP
from dp.execution.release import Release, StoredRelease
from dp.planning.plan import NoiseParties, make_plan
from lake.errors import LedgerBehind
from lake.ledger import Head, Ledger
from lake.ledger.heads import PeerHead
from spark_mpc.cli import main
from spark_mpc.talk import public_reason
from tests.attacks.test_set_back_ledgers import QUERY
from tests.tools.sparkless import sparkless_source


def test_show_lists_the_ledgers_of_peers_and_who_had_another_before(tmp_path: Path) -> None:
    path, shown = tmp_path / "ledger", CliRunner()
    with Ledger.create(path, capacity=PureDP(1), clock=lambda: 0.0) as ledger:
        assert "peer" not in shown.invoke(main, ["ledger", "show", str(path)]).output
        heads = [("b", "1" * 32, 7), ("c", "2" * 32, 9), ("b", "3" * 32, 1)]
        for party, ledger_id, sequence in heads:
            ledger.keep_heads([PeerHead(party, ledger_id, Head(sequence, "0" * 64))])
    lines = [line.split() for line in shown.invoke(main, ["ledger", "show", str(path)]).output.splitlines()]
    seen = "1970-01-01T00:00:00"
    assert ["b", "1" * 32, "7", seen] in lines
    assert ["c", "2" * 32, "9", seen] in lines
    assert ["b", "3" * 32, "1", seen, "not", "its", "first:", "ask", "why"] in lines


def test_a_release_shows_its_notices() -> None:
    plan = make_plan(QUERY, PureDP(1), parties=3, noise=NoiseParties(copies=3, honest=1))
    stored = StoredRelease("run", np.zeros(plan.length, np.uint64))
    plain = Release.of(plan, stored, sparkless_source().spark, PureDP(1), paid_before=False)
    told = replace(plain, notices=("b pays from a ledger <never> seen",))
    assert str(told) == f"{plain}\nb pays from a ledger <never> seen"
    assert "ledger &lt;never&gt; seen</p>" in told._repr_html_()
    assert "never" not in plain._repr_html_()


def test_peers_are_told_what_is_missing_and_not_where_the_ledger_lies() -> None:
    error = LedgerBehind("/srv/claims.ledger", "lacks audit event 7, which b has seen", "ask")
    assert public_reason(error) == "its ledger lacks audit event 7, which b has seen"
